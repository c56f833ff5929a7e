-- Each shard: who owns it, whether that one is alive, how far its stream is decided.
SELECT s.shard, s.worker::text AS worker, coalesce(h.expires_at > clock_timestamp(), false) AS alive,
       w.host, w.process,
       extract(epoch FROM clock_timestamp() - h.expires_at)::float8 AS expired_seconds,
       s.generation, s.ms, s.seq, s.position,
       to_char(s.time, 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS decided_at
FROM ledger.shards s
LEFT JOIN ledger.workers w ON w.worker = s.worker
LEFT JOIN ledger.heartbeats h ON h.worker = s.worker
ORDER BY s.shard
