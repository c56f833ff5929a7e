-- Ends what stands in the way of a backend and whose own worker's heartbeat has expired: a
-- frozen one keeps its locks, and no time-out of Postgres ends that. Nobody else is touched.
SELECT a.application_name, pg_terminate_backend(a.pid) AS ended
FROM pg_stat_activity a
JOIN ledger.heartbeats h ON a.application_name = 'engine ' || h.worker::text
WHERE a.pid = ANY (pg_blocking_pids($1)) AND h.worker <> $2
  AND h.expires_at <= clock_timestamp()
