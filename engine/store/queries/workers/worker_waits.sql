-- It lives and waits for something, which $2 says; unless it says so again within $3 seconds.
UPDATE ledger.heartbeats
SET waits_for = $2,
    waits_since = CASE WHEN waits_until > clock_timestamp() THEN waits_since ELSE clock_timestamp() END,
    waits_until = clock_timestamp() + make_interval(secs => $3)
WHERE worker = $1
