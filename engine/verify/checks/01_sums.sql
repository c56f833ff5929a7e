-- In every ledger all amounts, and all pending amounts, sum to zero.
-- Counts: ledgers
--
-- What left one account has reached another. The sums are numeric: they do not overflow.
SELECT 'ledgers' AS what,
       CASE
           WHEN sums.amount <> 0 THEN 'the amounts of its postings do not sum to zero'
           WHEN sums.pending_amount <> 0 THEN 'the pending amounts of its postings do not sum to zero'
       END AS fault,
       NULL::bigint AS place,
       jsonb_build_object('ledger', sums.ledger, 'amount', sums.amount,
                          'pending_amount', sums.pending_amount) AS offender
FROM (SELECT a.ledger,
             sum(p.amount) + coalesce(sum(earlier.amount), 0) AS amount,
             sum(p.pending_amount) + coalesce(sum(earlier.pending_amount), 0) AS pending_amount
      FROM ledger.posted p
      JOIN ledger.accounts a ON a.number = p.stripe >> 10
      CROSS JOIN LATERAL (
          SELECT sum(e.amount) AS amount, sum(e.pending_amount) AS pending_amount
          FROM unnest(p.earlier_amounts, p.earlier_pending) AS e(amount, pending_amount)) earlier
      GROUP BY a.ledger) AS sums
