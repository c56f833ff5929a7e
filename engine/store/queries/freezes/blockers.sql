-- Whom a backend waits for.
SELECT a.application_name || ' (backend ' || a.pid || ')' AS blocker FROM pg_stat_activity a
WHERE a.pid = ANY (pg_blocking_pids($1)) ORDER BY a.pid
