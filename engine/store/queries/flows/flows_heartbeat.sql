-- Alive for another lease; by the clock that all timers go by.
UPDATE flows.heartbeats SET expires_at = clock_timestamp() + make_interval(secs => $2)
WHERE worker = $1
RETURNING clock_timestamp() AS now
