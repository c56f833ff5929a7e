-- Ends what stands in the way of a backend and whose own worker's heartbeat has expired: a
-- frozen one keeps its locks, and no time-out of Postgres ends that. Nobody else is touched.
-- Of another login role it is ended by a function that tests the same again.
SELECT a.application_name,
       CASE WHEN pg_has_role(a.usesysid, 'USAGE') THEN pg_terminate_backend(a.pid)
            ELSE ledger.end_frozen_backend(a.pid, $1) END AS ended
FROM pg_stat_activity a
JOIN ledger.heartbeats h ON a.application_name = 'engine ' || h.worker::text
WHERE a.pid = ANY (pg_blocking_pids($1)) AND h.worker <> $2
  AND h.expires_at <= clock_timestamp()
