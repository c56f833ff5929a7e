-- Whether a backend is doing something, or did a moment ago: not gone, and not idle for long.
SELECT EXISTS (
    SELECT FROM pg_stat_activity
    WHERE pid = $1 AND application_name = $2
      AND (state IS NULL OR state NOT LIKE 'idle%'
           OR state_change > clock_timestamp() - interval '2 s'))
