-- doctor_workers
-- Workers that are alive, and others that still own shards: what their connections wait for, how long
-- their commits took lately, and what those say that wait.
SELECT w.worker::text AS worker, w.host, w.process, h.drained, w.shards IS NOT NULL AS is_listed,
       h.expires_at > clock_timestamp() AS alive,
       extract(epoch FROM h.expires_at - clock_timestamp())::float8 AS lease_seconds_left,
       (SELECT count(*) FROM ledger.owners o WHERE o.worker = w.worker) AS shards,
       busy.waits_for, coalesce(busy.seconds, 0) AS waits_seconds,
       coalesce((SELECT max(l.commit_seconds) FROM ledger.loads l WHERE l.worker = w.worker
                 AND l.measured_at > clock_timestamp() - interval '15 s'), 0) AS commit_seconds,
       CASE WHEN said.now THEN h.waits_for END AS says,
       CASE WHEN said.now THEN extract(epoch FROM clock_timestamp() - h.waits_since)::float8 ELSE 0 END
       AS says_seconds
FROM ledger.workers w
JOIN ledger.heartbeats h ON h.worker = w.worker
CROSS JOIN LATERAL (SELECT coalesce(h.waits_until > clock_timestamp(), false) AS now) said
LEFT JOIN LATERAL (
    SELECT a.wait_event_type || ' ' || a.wait_event AS waits_for,
           extract(epoch FROM clock_timestamp() - a.query_start)::float8 AS seconds
    FROM pg_stat_activity a
    WHERE a.application_name = 'engine ' || w.worker AND a.state <> 'idle'
      AND a.wait_event_type IN ('IO', 'Lock', 'LWLock', 'IPC')
    ORDER BY a.query_start LIMIT 1) busy ON true
WHERE w.worker <> '00000000-0000-0000-0000-000000000000'
  AND (h.expires_at > clock_timestamp() OR said.now
       OR EXISTS (SELECT FROM ledger.owners o WHERE o.worker = w.worker))
ORDER BY w.started_at
