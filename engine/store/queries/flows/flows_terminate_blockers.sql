-- Ends frozen flow workers' backends that stand in the way of this one; nobody else's.
SELECT a.application_name, pg_terminate_backend(a.pid) AS ended
FROM pg_stat_activity a
JOIN flows.heartbeats h ON a.application_name = 'engine flows ' || h.worker::text
WHERE a.pid = ANY (pg_blocking_pids($1)) AND h.worker <> $2 AND h.expires_at <= clock_timestamp()
