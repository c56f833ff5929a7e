SELECT o.shard, coalesce(p.generation, 0) AS generation, coalesce(p.ms, 0) AS ms,
       coalesce(p.seq, 0) AS seq, p.time AS resolved_until, f.time
FROM ledger.owners o
LEFT JOIN LATERAL (
    SELECT * FROM ledger.positions p WHERE p.shard = o.shard ORDER BY p.flush DESC LIMIT 1) p ON true
LEFT JOIN ledger.flushes f ON f.number = p.flush
WHERE o.shard = ANY ($1::smallint[])
