-- Workers that are alive, and dead ones that still own shards, with what their connections wait for.
SELECT w.worker::text AS worker, w.host, w.process, h.drained, w.shards IS NOT NULL AS is_listed,
       h.expires_at > clock_timestamp() AS alive,
       extract(epoch FROM h.expires_at - clock_timestamp())::float8 AS lease_seconds_left,
       (SELECT count(*) FROM ledger.owners o WHERE o.worker = w.worker) AS shards,
       (SELECT max(a.wait_event_type || ' ' || a.wait_event) FROM pg_stat_activity a
        WHERE a.application_name = 'engine ' || w.worker AND a.state <> 'idle'
          AND a.wait_event_type IN ('IO', 'Lock', 'LWLock', 'IPC')) AS waits_for
FROM ledger.workers w
JOIN ledger.heartbeats h ON h.worker = w.worker
WHERE w.worker <> '00000000-0000-0000-0000-000000000000'
  AND (h.expires_at > clock_timestamp() OR EXISTS (SELECT FROM ledger.owners o WHERE o.worker = w.worker))
ORDER BY w.started_at
