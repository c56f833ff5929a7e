-- The last postings of an account, newest first.
SELECT transfer_id, other_account_id, amount, pending_amount, code, flags, shard, version,
       debits_pending, debits_posted, credits_pending, credits_posted, posted_at, number
FROM ledger.history($1, $2, $3, $4)
