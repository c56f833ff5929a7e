-- Each shard: who owns it, whether that one is alive, how far its stream is decided, how fast,
-- how many locked flushes its owner needed in the last minute, where it is to go, by whom it is
-- frozen, and what of it waits for a thaw.
SELECT s.shard, s.worker::text AS worker, coalesce(h.expires_at > clock_timestamp(), false) AS alive,
       w.host, w.process,
       extract(epoch FROM clock_timestamp() - h.expires_at)::float8 AS expired_seconds,
       s.generation, s.ms, s.seq, s.position,
       to_char(s.time, 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS decided_at,
       CASE WHEN l.worker = s.worker AND l.measured_at > clock_timestamp() - interval '15 s'
            THEN l.transfers_per_second ELSE 0 END AS transfers_per_second,
       (SELECT count(*)
        FROM (SELECT f.kind, f.time FROM ledger.flushes f WHERE f.worker = s.worker
              ORDER BY f.sequence DESC LIMIT 5000) AS lately
        WHERE lately.kind = 'locked' AND lately.time > clock_timestamp() - interval '1 minute')
       AS locked_flushes,
       m.target::text AS target, z.acted_by || ': ' || z.reason AS frozen_by,
       (SELECT count(*) FROM ledger.waits k WHERE k.shard = s.shard) AS parked,
       CASE WHEN l.worker = s.worker AND l.measured_at > clock_timestamp() - interval '15 s'
            THEN nullif(l.answer_seconds, 0) END AS answer_seconds
FROM ledger.shards s
LEFT JOIN ledger.workers w ON w.worker = s.worker
LEFT JOIN ledger.leases h ON h.worker = s.worker
LEFT JOIN ledger.shard_loads l ON l.shard = s.shard
LEFT JOIN ledger.shard_moves m ON m.shard = s.shard AND m.ended_at IS NULL
LEFT JOIN ledger.frozen z ON z.kind = 'shard' AND z.what = s.shard::text AND NOT z.declines
ORDER BY s.shard
