-- The four counters after every run are those of the run before it, moved by its postings.
-- Counts: runs
--
-- The debit leg of a transfer moves the debits alone, the credit leg the credits: posted by
-- the amount, pending by the pending amount, whether it holds, posts, voids or expires. A sign
-- alone does not tell the leg (a hold's debit leg and the release of its credit leg are both
-- negative): a run with pending amounts says it, and of a run of one the transfer is asked.
-- A posting that is no leg of its transfer, or whose version before it is missing, is named by
-- another check.
WITH steps AS (
    SELECT p.number, p.stripe, p.version, p.transfer_id, p.amount, p.pending_amount,
           (p.version > coalesce(cardinality(p.earlier_transfers), 0) + 1 AND before.version IS NULL)
               OR moved.sides_unknown AS unknown,
           p.debits_pending, p.debits_posted, p.credits_pending, p.credits_posted,
           coalesce(before.debits_pending, 0) AS debits_pending_before,
           coalesce(before.debits_posted, 0) AS debits_posted_before,
           coalesce(before.credits_pending, 0) AS credits_pending_before,
           coalesce(before.credits_posted, 0) AS credits_posted_before,
           -- Debits grow by what the balance shrinks by.
           - moved.debit_pending AS debits_pending_moved, - moved.debit AS debits_posted_moved,
           moved.credit_pending AS credits_pending_moved, moved.credit AS credits_posted_moved
    FROM ledger.posted p
    LEFT JOIN ledger.posted before
        ON before.stripe = p.stripe
       AND before.version = p.version - coalesce(cardinality(p.earlier_transfers), 0) - 1
    LEFT JOIN ledger.spent t
        ON p.earlier_transfers IS NULL AND t.id = p.transfer_id AND t.outcome = 0
    CROSS JOIN LATERAL (
        SELECT bool_or(sided.is_debit IS NULL AND (amount <> 0 OR pending_amount <> 0)) AS sides_unknown,
               coalesce(sum(amount) FILTER (WHERE sided.is_debit), 0) AS debit,
               coalesce(sum(pending_amount) FILTER (WHERE sided.is_debit), 0) AS debit_pending,
               coalesce(sum(amount) FILTER (WHERE NOT sided.is_debit), 0) AS credit,
               coalesce(sum(pending_amount) FILTER (WHERE NOT sided.is_debit), 0) AS credit_pending
        FROM (SELECT l.amount, l.pending_amount,
                     CASE
                         WHEN p.earlier_transfers IS NOT NULL THEN l.is_debit
                         WHEN p.stripe >> 10 = t.debit_account THEN true
                         WHEN p.stripe >> 10 = t.credit_account THEN false
                     END AS is_debit
              FROM ledger.legs_of(p) l) sided) moved)

SELECT 'runs' AS what,
       CASE
           WHEN unknown THEN NULL
           WHEN debits_posted::numeric - debits_posted_before <> debits_posted_moved
                OR debits_pending::numeric - debits_pending_before <> debits_pending_moved
               THEN 'its debits are not those before it, moved by its postings'
           WHEN credits_posted::numeric - credits_posted_before <> credits_posted_moved
                OR credits_pending::numeric - credits_pending_before <> credits_pending_moved
               THEN 'its credits are not those before it, moved by its postings'
       END AS fault,
       steps.number AS place,
       jsonb_build_object(
           'account_id', a.id, 'shard', stripe & 1023, 'version', version,
           'transfer_id', transfer_id, 'amount', amount, 'pending_amount', pending_amount,
           'counters', jsonb_build_object(
               'debits_pending', debits_pending, 'debits_posted', debits_posted,
               'credits_pending', credits_pending, 'credits_posted', credits_posted),
           'counters_before', jsonb_build_object(
               'debits_pending', debits_pending_before, 'debits_posted', debits_posted_before,
               'credits_pending', credits_pending_before, 'credits_posted', credits_posted_before)
       ) AS offender
FROM steps
LEFT JOIN ledger.accounts a ON a.number = stripe >> 10
