-- The four counters of some accounts, in the order asked for.
SELECT a.id::text AS account_id, a.name, a.ledger, b.debits_pending, b.debits_posted,
       b.credits_pending, b.credits_posted, b.closed
FROM unnest($1::uuid[]) WITH ORDINALITY AS wanted(id, place)
JOIN ledger.accounts a ON a.id = wanted.id
JOIN ledger.balances b ON b.account_id = wanted.id
ORDER BY wanted.place
