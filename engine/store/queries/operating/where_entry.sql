-- Of some shards, which flush passed an entry of that id, if there was one, and its dead letter.
SELECT o.shard::integer AS shard, f.number AS flush, f.worker::text AS worker, w.host, w.process, f.kind,
       to_char(f.time, 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS decided_at, f.transfers, f.declined,
       l.letter, l.reason, l.state,
       to_char(l.received_at, 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS received_at
FROM ledger.shards o
LEFT JOIN ledger.flushes f
       ON f.number = ledger.flush_of_entry(o.shard, o.generation, $2, $3)
LEFT JOIN ledger.workers w ON w.worker = f.worker
LEFT JOIN ledger.letters l ON l.shard = o.shard AND l.generation = o.generation AND l.ms = $2 AND l.seq = $3
WHERE o.shard = ANY ($1::smallint[])
ORDER BY o.shard
