-- Accounts as a worker writes them: the newest counters of the stripe that it writes (that of
-- the home where it owns it ($2), else that of its writing shard ($3)), and the sums over all
-- other stripes. Most accounts have one other at most, which a probe on either side finds; only
-- where there are more of them on a side are all gone through, which costs several times that.
-- One whose number no stripe can be made of has none: who reads it leaves it out.
SELECT a.id, a.number, a.shard, a.ledger, a.code, a.flags, a.closed,
       coalesce(own.version, 0) AS version,
       ARRAY[coalesce(own.debits_pending, 0), coalesce(own.debits_posted, 0),
             coalesce(own.credits_pending, 0), coalesce(own.credits_posted, 0)] AS own,
       CASE WHEN more THEN (
            SELECT ARRAY[ledger.saturated(sum(n.debits_pending)), ledger.saturated(sum(n.debits_posted)),
                         ledger.saturated(sum(n.credits_pending)), ledger.saturated(sum(n.credits_posted))]
            FROM ledger.newest(a.number) n WHERE n.stripe <> mine.stripe)
       ELSE ARRAY[ledger.added(coalesce(above.debits_pending, 0), coalesce(below.debits_pending, 0)),
                  ledger.added(coalesce(above.debits_posted, 0), coalesce(below.debits_posted, 0)),
                  ledger.added(coalesce(above.credits_pending, 0), coalesce(below.credits_pending, 0)),
                  ledger.added(coalesce(above.credits_posted, 0), coalesce(below.credits_posted, 0))]
       END AS others,
       CASE WHEN more THEN (
            SELECT max(f.time) FROM ledger.newest(a.number) n
            JOIN ledger.flushes f ON f.number = n.number >> 20
            WHERE n.stripe <> mine.stripe)
       ELSE greatest((SELECT f.time FROM ledger.flushes f WHERE f.number = above.number >> 20),
                     (SELECT f.time FROM ledger.flushes f WHERE f.number = below.number >> 20))
       END AS others_time
FROM unnest($1::uuid[]) AS wanted(id)
JOIN ledger.accounts a ON a.id = wanted.id
CROSS JOIN LATERAL (
    SELECT CASE WHEN a.number BETWEEN 1 AND 4503599627370495
                THEN a.number * 1024 + CASE WHEN a.shard = ANY ($2::integer[]) THEN a.shard
                                            ELSE $3::integer END END AS stripe) mine
LEFT JOIN LATERAL (
    SELECT p.version, p.debits_pending, p.debits_posted, p.credits_pending, p.credits_posted
    FROM ledger.posted p WHERE p.stripe = mine.stripe AND p.run > 0
    ORDER BY p.version - p.run DESC LIMIT 1) own ON true
LEFT JOIN LATERAL (
    SELECT p.stripe, p.number, p.debits_pending, p.debits_posted, p.credits_pending, p.credits_posted
    FROM ledger.posted p
    WHERE p.stripe >= (mine.stripe & -1024) AND p.stripe < mine.stripe AND p.run > 0
    ORDER BY p.stripe DESC, p.version - p.run DESC LIMIT 1) below ON true
LEFT JOIN LATERAL (
    SELECT p.stripe, p.number, p.debits_pending, p.debits_posted, p.credits_pending, p.credits_posted
    FROM ledger.posted p
    WHERE p.stripe > mine.stripe AND p.stripe <= (mine.stripe | 1023) AND p.run > 0
    ORDER BY p.stripe DESC, p.version - p.run DESC LIMIT 1) above ON true
CROSS JOIN LATERAL (
    SELECT EXISTS (SELECT FROM ledger.posted p
                   WHERE p.stripe >= (mine.stripe & -1024) AND p.stripe < below.stripe AND p.run > 0)
        OR EXISTS (SELECT FROM ledger.posted p
                   WHERE p.stripe > mine.stripe AND p.stripe < above.stripe AND p.run > 0) AS more) AS beyond
