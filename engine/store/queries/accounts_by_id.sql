-- Accounts as a worker writes them: the newest counters of the stripe that it writes (that of
-- the home where it owns it ($2), else that of its writing shard ($3)), and the sums over all
-- other stripes. Most accounts have no other: that costs two probes to see.
SELECT a.id, a.number, a.shard, a.ledger, a.code, a.flags, a.closed,
       coalesce(own.version, 0) AS version,
       ARRAY[coalesce(own.debits_pending, 0), coalesce(own.debits_posted, 0),
             coalesce(own.credits_pending, 0), coalesce(own.credits_posted, 0)] AS own,
       CASE WHEN below.stripe IS NULL AND above.stripe IS NULL THEN '{0,0,0,0}'::bigint[]
            ELSE (SELECT ARRAY[coalesce(sum(n.debits_pending), 0)::bigint,
                               coalesce(sum(n.debits_posted), 0)::bigint,
                               coalesce(sum(n.credits_pending), 0)::bigint,
                               coalesce(sum(n.credits_posted), 0)::bigint]
                  FROM ledger.newest(a.number) n WHERE n.stripe <> mine.stripe) END AS others,
       CASE WHEN below.stripe IS NULL AND above.stripe IS NULL THEN NULL
            ELSE (SELECT max(f.time) FROM ledger.newest(a.number) n
                  JOIN ledger.flushes f ON f.number = n.number >> 20
                  WHERE n.stripe <> mine.stripe) END AS others_time
FROM unnest($1::uuid[]) AS wanted(id)
JOIN ledger.accounts a ON a.id = wanted.id
CROSS JOIN LATERAL (
    SELECT a.number * 1024 + CASE WHEN a.shard = ANY ($2::integer[]) THEN a.shard
                                  ELSE $3::integer END AS stripe) mine
LEFT JOIN LATERAL (
    SELECT * FROM ledger.posted p WHERE p.stripe = mine.stripe AND p.run > 0
    ORDER BY p.version - p.run DESC LIMIT 1) own ON true
LEFT JOIN LATERAL (
    SELECT p.stripe FROM ledger.posted p
    WHERE p.stripe >= a.number * 1024 AND p.stripe < mine.stripe AND p.run > 0
    ORDER BY p.stripe LIMIT 1) below ON true
LEFT JOIN LATERAL (
    SELECT p.stripe FROM ledger.posted p
    WHERE p.stripe > mine.stripe AND p.stripe < (a.number + 1) * 1024 AND p.run > 0
    ORDER BY p.stripe LIMIT 1) above ON true
