-- Whether a backend computes or waits as a trigger may make it: what only commits writes to disk,
-- waits for who does, or for a standby.
SELECT EXISTS (
    SELECT FROM pg_stat_activity
    WHERE pid = $1 AND application_name = $2 AND state = 'active'
      AND coalesce(wait_event_type, '') NOT IN ('IO', 'LWLock', 'BufferPin', 'IPC'))
