-- The record of owners has no gaps, and only a shard's owner, or who had it locked, wrote for it.
-- Counts: changes of owner, positions
--
-- A change of owner is a claim in the new owner's chain or a release in the former one's, and is
-- numbered like the flushes: what has a higher number is the new owner's. The first row of each
-- shard is where the record begins. Every flush moves the position, or at least the time, of
-- every shard that it wrote for; a locked flush of another worker has lent the owner's chain.
WITH changes AS (
    SELECT o.shard, o.flush, o.former, o.worker, f.kind, f.worker AS writer,
           lag(o.worker) OVER shard AS owner_before, lag(o.flush) OVER shard AS change_before,
           lead(o.flush) OVER shard AS change_after
    FROM ledger.ownership o
    LEFT JOIN ledger.flushes f ON f.number = o.flush
    WINDOW shard AS (PARTITION BY o.shard ORDER BY o.flush)),

positions AS (
    SELECT *
    FROM (SELECT shard, flush, is_change,
                 max(flush) FILTER (WHERE is_change) OVER (PARTITION BY shard ORDER BY flush)
                     AS owned_since
          FROM (SELECT shard, flush, false AS is_change FROM ledger.positions
                UNION ALL
                SELECT shard, flush, true FROM ledger.ownership) AS both_of_them) AS placed
    WHERE NOT is_change)

SELECT 'changes of owner' AS what,
       CASE
           WHEN c.shard IS NULL THEN 'the shard has an owner and no record of how it came to it'
           WHEN c.change_before IS NULL AND c.former <> c.worker
               THEN 'the record of the shard does not begin'
           WHEN c.change_before IS NOT NULL AND c.former <> c.owner_before
               THEN 'the shard was taken from another than its owner'
           WHEN c.change_before IS NOT NULL
                AND ((c.kind = 'claim' AND c.writer = c.worker)
                     OR (c.kind = 'release' AND c.writer = c.former
                         AND c.worker = '00000000-0000-0000-0000-000000000000')) IS NOT TRUE
               THEN 'no claim of the new owner and no release of the former one has its number'
           WHEN c.change_after IS NULL AND c.worker <> o.worker
               THEN 'the owner is another than the one who took it last'
       END AS fault,
       c.flush AS place,
       jsonb_build_object('shard', coalesce(c.shard, o.shard), 'flush', c.flush,
                          'former', c.former, 'worker', c.worker, 'kind', c.kind,
                          'owner', o.worker) AS offender
FROM changes c
FULL JOIN ledger.owners o ON o.shard = c.shard AND c.change_after IS NULL

UNION ALL

SELECT 'positions',
       CASE
           WHEN f.kind = 'flush' AND f.worker <> o.worker THEN 'its worker did not own the shard'
           WHEN f.kind = 'locked' AND f.worker <> o.worker AND lent.number IS NULL
               THEN 'its worker neither owned the shard nor had its owner locked'
       END,
       p.flush,
       jsonb_build_object('shard', p.shard, 'flush', p.flush, 'worker', f.worker,
                          'kind', f.kind, 'owner', o.worker, 'owned_since', o.flush)
FROM positions p
LEFT JOIN ledger.ownership o ON o.shard = p.shard AND o.flush = p.owned_since
LEFT JOIN ledger.flushes f ON f.number = p.flush
LEFT JOIN ledger.flushes lent ON lent.kind = 'lent' AND lent.other = p.flush
                             AND lent.worker = o.worker AND f.worker <> o.worker
