-- Accounts with the newest counters of their home stripes; ids that are none are left out.
SELECT a.id, a.number, a.shard, a.ledger, a.code, a.flags, a.closed,
       coalesce(p.version, 0) AS version,
       coalesce(p.debits_pending, 0) AS debits_pending,
       coalesce(p.debits_posted, 0) AS debits_posted,
       coalesce(p.credits_pending, 0) AS credits_pending,
       coalesce(p.credits_posted, 0) AS credits_posted
FROM unnest($1::uuid[]) AS wanted(id)
JOIN ledger.accounts a ON a.id = wanted.id
LEFT JOIN LATERAL (
    SELECT * FROM ledger.posted p
    WHERE p.stripe = a.number * 1024 + a.shard
    ORDER BY p.version DESC LIMIT 1) p ON true
