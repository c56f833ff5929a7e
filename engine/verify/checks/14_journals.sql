-- The journal of every flow is dense, written by the owner of its shard, and ends at most once.
-- Counts: flows, rows
--
-- A start that was refused has no journal. What is open stands in `flows.open`, and nothing else does.
WITH journals AS (
    SELECT s.flow, count(*) AS rows, min(s.seq) AS first, max(s.seq) AS last,
           count(*) FILTER (WHERE s.state = 'ended') AS ends,
           max(s.seq) FILTER (WHERE s.state = 'ended') AS ended
    FROM flows.steps s GROUP BY s.flow),

owners AS (
    SELECT o.shard, o.worker, o.flush AS since,
           lead(o.flush) OVER (PARTITION BY o.shard ORDER BY o.flush) AS until
    FROM flows.ownership o)

SELECT 'flows' AS what,
       CASE
           WHEN f.id IS NULL THEN 'there is a journal and no flow'
           WHEN f.outcome <> 'created' AND (j.flow IS NOT NULL OR o.flow IS NOT NULL)
               THEN 'its start was refused, and it has a journal'
           WHEN f.outcome = 'created' AND j.flow IS NULL THEN 'it has no journal'
           WHEN j.first <> 1 OR j.last <> j.rows THEN 'its journal has gaps'
           WHEN j.ends > 1 THEN 'it ended more than once'
           WHEN j.ended < j.last THEN 'something happened after its end'
           WHEN j.ends = 1 AND o.flow IS NOT NULL THEN 'it has ended and is kept as open'
           WHEN j.ends = 0 AND o.flow IS NULL THEN 'it has not ended and nobody looks at it'
       END AS fault,
       f.number AS place,
       jsonb_build_object('flow', coalesce(f.id, j.flow), 'rows', j.rows, 'last', j.last,
                          'ends', j.ends) AS offender
FROM flows.flows f
FULL JOIN journals j ON j.flow = f.id
LEFT JOIN flows.open o ON o.flow = f.id

UNION ALL

SELECT 'rows',
       CASE
           WHEN u.number IS NULL THEN 'its flush is not there'
           WHEN w.worker IS NULL THEN 'it was not written by the owner of the shard'
           WHEN s.signal IS NOT NULL AND i.number IS NULL THEN 'the signal that it names is not there'
       END,
       s.number,
       jsonb_build_object('flow', s.flow, 'seq', s.seq, 'flush', s.number, 'worker', u.worker)
FROM flows.steps s
LEFT JOIN flows.flows f ON f.id = s.flow
LEFT JOIN flows.flushes u ON u.number = s.number
LEFT JOIN owners w ON w.shard = f.shard AND w.worker = u.worker
                  AND w.since < s.number AND coalesce(s.number < w.until, true)
LEFT JOIN flows.inbox i ON i.number = s.signal AND i.flow = s.flow
