-- Workers that are alive or wait, and dead ones that still own shards.
SELECT w.worker::text AS worker, w.host, w.process,
       to_char(w.started_at, 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS started_at,
       h.expires_at > clock_timestamp() AS alive,
       extract(epoch FROM h.expires_at - clock_timestamp())::float8 AS lease_seconds_left,
       ARRAY(SELECT o.shard::integer FROM ledger.shard_owners o WHERE o.worker = w.worker
             ORDER BY o.shard) AS shards,
       w.shards::integer[] AS pinned,
       h.drained,
       CASE WHEN waits.now THEN h.waits_for END AS waits_for,
       CASE WHEN waits.now
            THEN extract(epoch FROM clock_timestamp() - h.waits_since)::float8 END AS waits_seconds,
       (SELECT to_char(f.time, 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') FROM ledger.flushes f
        WHERE f.worker = w.worker ORDER BY f.sequence DESC LIMIT 1) AS last_flush_at,
       (SELECT max(a.wait_event_type || ' ' || a.wait_event) FROM pg_stat_activity a
        WHERE a.application_name = 'engine ' || w.worker AND a.state <> 'idle'
          AND a.wait_event_type IN ('IO', 'Lock', 'LWLock', 'IPC')) AS in_postgres
FROM ledger.workers w
JOIN ledger.leases h ON h.worker = w.worker
CROSS JOIN LATERAL (SELECT coalesce(h.waits_until > clock_timestamp(), false) AS now) waits
WHERE h.expires_at > clock_timestamp() OR waits.now
   OR EXISTS (SELECT FROM ledger.shard_owners o WHERE o.worker = w.worker)
ORDER BY w.started_at
