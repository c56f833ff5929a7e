-- Ends this worker's own lost backend, while it is there. By name as well as by number: after a
-- restart of Postgres the number may be a stranger's.
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE pid = $1 AND application_name = $2 AND pid <> pg_backend_pid()
