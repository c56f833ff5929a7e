-- Positions and times never go back, and only a shard's owner, or who borrowed it, moved them.
-- Counts: positions, flushes
--
-- Who owned a shard at a time follows from the chains. Its last own flush names an owner; this
-- worker stays it until a row in its chain says that it lost shards (claimed from, released),
-- and another can be it only after a claim of its own since then. Which shards a loss or a
-- claim was about is not written, so a stranger is noticed only where neither can explain it.
-- A locked flush of another worker explains itself by its loan in the owner's chain.
WITH chains AS (
    SELECT f.number, f.worker, f.sequence, f.kind, f.time,
           max(f.number) FILTER (WHERE f.kind = 'claim' AND f.other IS NULL)
               OVER (PARTITION BY f.worker ORDER BY f.sequence) AS claimed,
           min(f.number) FILTER (WHERE f.kind = 'release'
                                       OR (f.kind = 'claim' AND f.other IS NOT NULL))
               OVER (PARTITION BY f.worker ORDER BY f.sequence DESC) AS lost
    FROM ledger.flushes f),

moves AS (
    SELECT p.shard, p.flush, p.generation, p.ms, p.seq, p.time, f.worker, f.kind, f.claimed,
           f.time AS flush_time,
           row(p.generation, p.ms, p.seq) < row(lag(p.generation) OVER shard,
               lag(p.ms) OVER shard, lag(p.seq) OVER shard) AS is_back,
           p.time <= lag(p.time) OVER shard AS is_early,
           max(p.flush) FILTER (WHERE f.kind = 'flush') OVER (
               PARTITION BY p.shard ORDER BY p.flush
               ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS owned_in
    FROM ledger.positions p
    LEFT JOIN chains f ON f.number = p.flush
    WINDOW shard AS (PARTITION BY p.shard ORDER BY p.flush))

SELECT 'positions' AS what,
       CASE
           WHEN m.is_back THEN 'it went back in its stream'
           WHEN m.is_early THEN 'its time is not after that of the position before it'
           WHEN m.time <> m.flush_time THEN 'its time is not that of its flush'
           WHEN m.kind = 'flush' AND m.claimed IS NULL
               THEN 'its worker moved it without ever having claimed a shard'
           WHEN m.worker <> o.worker AND lent.number IS NULL
                AND (o.lost < m.flush) IS NOT TRUE
               THEN 'another worker owned the shard'
           WHEN m.worker <> o.worker AND m.kind = 'flush' AND m.claimed < m.owned_in
               THEN 'its worker has claimed no shard since another owned this one'
       END AS fault,
       m.flush AS place,
       jsonb_build_object(
           'shard', m.shard, 'flush', m.flush, 'position', m.ms || '-' || m.seq,
           'generation', m.generation, 'time', m.time, 'worker', m.worker, 'kind', m.kind,
           'owner', o.worker, 'owned_in_flush', m.owned_in) AS offender
FROM moves m
LEFT JOIN chains o ON o.number = m.owned_in
LEFT JOIN ledger.flushes lent ON lent.kind = 'lent' AND lent.other = m.flush
                             AND lent.worker = o.worker AND m.worker <> o.worker

UNION ALL

SELECT 'flushes',
       CASE
           WHEN time <= lag(time) OVER (PARTITION BY worker ORDER BY sequence)
               THEN 'its time is not after that of the flush before it in its chain'
       END,
       number,
       jsonb_build_object('flush', number, 'worker', worker, 'sequence', sequence, 'time', time)
FROM ledger.flushes
WHERE kind IN ('flush', 'locked')
