-- Runs of postings, with the place of their last one.
SELECT number >> 20 AS flush, number & 1048575 AS place, stripe, version, transfer_id, amount,
       pending_amount, debits_pending, debits_posted, credits_pending, credits_posted,
       earlier_transfers, earlier_amounts, earlier_pending
FROM ledger.posted
WHERE number BETWEEN $1::bigint << 20 AND ($2::bigint << 20) + 1048575
ORDER BY number
