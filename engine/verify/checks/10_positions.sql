-- Positions and times never go back.
-- Counts: positions, flushes
WITH moves AS (
    SELECT p.shard, p.flush, p.generation, p.ms, p.seq, p.time, f.worker, f.kind,
           f.time AS flush_time,
           row(p.generation, p.ms, p.seq) < row(lag(p.generation) OVER shard,
               lag(p.ms) OVER shard, lag(p.seq) OVER shard) AS is_back,
           f.time <= lag(f.time) OVER shard AS is_early,
           p.time < lag(p.time) OVER shard AS is_unresolved
    FROM ledger.positions p
    LEFT JOIN ledger.flushes f ON f.number = p.flush
    WINDOW shard AS (PARTITION BY p.shard ORDER BY p.flush))

SELECT 'positions' AS what,
       CASE
           WHEN m.is_back THEN 'it went back in its stream'
           WHEN m.is_early THEN 'its flush is not after that of the position before it'
           WHEN m.is_unresolved THEN 'holds that were resolved are so no more'
           WHEN m.time > m.flush_time THEN 'its time is after that of its flush'
       END AS fault,
       m.flush AS place,
       jsonb_build_object(
           'shard', m.shard, 'flush', m.flush, 'position', m.ms || '-' || m.seq,
           'generation', m.generation, 'time', m.time, 'worker', m.worker,
           'kind', m.kind) AS offender
FROM moves m

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
