UPDATE ledger.heartbeats SET expires_at = clock_timestamp() + make_interval(secs => $2)
WHERE worker = $1
