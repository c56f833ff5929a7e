-- It stopped: what it still owns may be taken at once.
UPDATE flows.heartbeats SET expires_at = clock_timestamp() WHERE worker = $1
