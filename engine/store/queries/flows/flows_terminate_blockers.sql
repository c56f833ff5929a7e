-- Ends frozen flow workers' backends that stand in the way of this one; nobody else's.
-- Of another login role they are ended by a function that tests the same again.
SELECT a.application_name,
       CASE WHEN pg_has_role(a.usesysid, 'USAGE') THEN pg_terminate_backend(a.pid)
            ELSE flows.end_frozen_backend(a.pid, $1) END AS ended
FROM pg_stat_activity a
JOIN flows.heartbeats h ON a.application_name = 'engine flows ' || h.worker::text
WHERE a.pid = ANY (pg_blocking_pids($1)) AND h.worker <> $2 AND h.expires_at <= clock_timestamp()
