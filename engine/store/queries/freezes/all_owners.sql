-- Everybody who owns a shard, and nobody, whose chain is that of what nobody owns; and a time that
-- nothing decided of their shards is above. A worker that was started before the ledger knew of
-- freezes is of a program that does not.
SELECT w.worker, w.worker <> '00000000-0000-0000-0000-000000000000'
       AND w.started_at < (SELECT m.applied_at FROM ledger.migrations m WHERE m.number = 8) AS is_older,
       greatest(
           (SELECT f.time FROM ledger.flushes f WHERE f.worker = w.worker
            ORDER BY f.sequence DESC LIMIT 1),
           (SELECT max(newest.time) FROM ledger.owners o CROSS JOIN LATERAL (
                SELECT f.time FROM ledger.positions p JOIN ledger.flushes f ON f.number = p.flush
                WHERE p.shard = o.shard ORDER BY p.flush DESC LIMIT 1) newest
            WHERE o.worker = w.worker),
           '1970-01-01Z') AS time
FROM ledger.workers w
WHERE w.worker = '00000000-0000-0000-0000-000000000000'
   OR EXISTS (SELECT FROM ledger.owners o WHERE o.worker = w.worker)
ORDER BY w.worker
