-- Transactions that are open for long, and those that stand in the way of a worker, however short.
WITH blocking AS (
    SELECT blocker.pid, max(extract(epoch FROM clock_timestamp() - waiting.query_start)) AS seconds
    FROM pg_stat_activity waiting
    CROSS JOIN LATERAL unnest(pg_blocking_pids(waiting.pid)) AS blocker(pid)
    WHERE waiting.application_name LIKE 'engine %' AND waiting.wait_event_type = 'Lock'
    GROUP BY blocker.pid)
SELECT a.pid, coalesce(a.application_name, '') AS application, coalesce(a.state, 'unknown') AS state,
       coalesce(extract(epoch FROM clock_timestamp() - a.xact_start), 0)::float8 AS seconds,
       b.seconds::float8 AS blocks_seconds,
       a.application_name LIKE 'engine %' AND EXISTS (
           SELECT FROM ledger.heartbeats h WHERE a.application_name LIKE 'engine ' || h.worker || '%'
           AND h.expires_at > clock_timestamp()) AS is_living_worker
FROM pg_stat_activity a LEFT JOIN blocking b ON b.pid = a.pid
WHERE a.datname = current_database() AND a.pid <> pg_backend_pid()
  AND (b.pid IS NOT NULL OR a.xact_start < clock_timestamp() - make_interval(secs => $1))
ORDER BY b.seconds DESC NULLS LAST, a.xact_start
