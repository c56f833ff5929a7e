-- The postings of a transfer, in the order of writing.
SELECT p.account_id::text AS account_id, a.name AS account_name, p.amount, p.pending_amount, p.shard,
       p.version, p.debits_pending, p.debits_posted, p.credits_pending, p.credits_posted,
       to_char(p.posted_at, 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS posted_at, p.number
FROM ledger.postings_of($1) p JOIN ledger.accounts a ON a.id = p.account_id
ORDER BY p.number
