-- Runs of postings, with the place of their last one.
SELECT number >> 20 AS flush, number & 1048575 AS place, stripe, version, transfer_id, amount,
       pending_amount, debits_pending, debits_posted, credits_pending, credits_posted,
       earlier_transfers, earlier_amounts, earlier_pending
FROM ledger.posted
WHERE number >= $1 << 20
ORDER BY number
