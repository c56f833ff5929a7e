-- In one snapshot: the last number in a worker's chain, its shards and how far each got; and what is
-- frozen, since `written` is the last number that no freeze or thaw took.
SELECT (SELECT coalesce(max(f.sequence), 0) FROM ledger.flushes f WHERE f.worker = $1) AS sequence,
       (SELECT coalesce(max(f.sequence), 0) FROM ledger.flushes f
        WHERE f.worker = $1 AND f.kind <> 'freeze') AS written,
       (SELECT array_agg(f.freeze_number ORDER BY f.freeze_number) FROM ledger.frozen f) AS freezes,
       (SELECT f.freeze_number FROM ledger.freezes f ORDER BY f.freeze_number DESC LIMIT 1) AS newest_freeze,
       (SELECT f.time FROM ledger.freezes f ORDER BY f.freeze_number DESC LIMIT 1) AS freeze_time,
       o.shard, p.generation, p.ms, p.seq, p.time AS resolved_until, f.time
FROM (SELECT 1) AS always
LEFT JOIN ledger.owners o ON o.worker = $1
LEFT JOIN LATERAL (
    SELECT * FROM ledger.positions p WHERE p.shard = o.shard ORDER BY p.flush DESC LIMIT 1) p ON true
LEFT JOIN ledger.flushes f ON f.number = p.flush
