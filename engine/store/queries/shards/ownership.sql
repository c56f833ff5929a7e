-- In one snapshot: the last number in a worker's chain, its shards and how far each got.
SELECT (SELECT coalesce(max(f.sequence), 0) FROM ledger.flushes f WHERE f.worker = $1) AS sequence,
       o.shard, p.generation, p.ms, p.seq, p.time AS resolved_until, f.time
FROM (SELECT 1) AS always
LEFT JOIN ledger.owners o ON o.worker = $1
LEFT JOIN LATERAL (
    SELECT * FROM ledger.positions p WHERE p.shard = o.shard ORDER BY p.flush DESC LIMIT 1) p ON true
LEFT JOIN ledger.flushes f ON f.number = p.flush
