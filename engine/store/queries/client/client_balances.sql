-- Accounts with their counters, in the order asked for; ids that are none are left out.
SELECT a.id, a.ledger, a.code, a.flags, a.name, a.shard, a.closed, a.created_at,
       a.user_data_128, a.user_data_64, a.user_data_32,
       b.debits_pending, b.debits_posted, b.credits_pending, b.credits_posted
FROM unnest($1::uuid[]) WITH ORDINALITY AS wanted(id, place)
JOIN ledger.accounts a ON a.id = wanted.id
JOIN ledger.balances b ON b.account_id = a.id
ORDER BY wanted.place
