-- The last postings of an account, newest first, with the name of the other side.
SELECT to_char(h.posted_at, 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS posted_at,
       h.transfer_id::text AS transfer_id, h.other_account_id::text AS other_account_id,
       a.name AS other_name, h.amount, h.pending_amount, h.code, h.flags, h.shard, h.version,
       h.debits_pending, h.debits_posted, h.credits_pending, h.credits_posted, h.number
FROM ledger.history($1, $2, $3, $4) WITH ORDINALITY AS h
LEFT JOIN ledger.accounts a ON a.id = h.other_account_id
ORDER BY h.ordinality
