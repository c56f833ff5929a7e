-- A new flow worker with an empty chain, alive for the length of a lease.
WITH new AS (
    INSERT INTO flows.workers (worker, host, process) VALUES ($1, $2, $3)
    ON CONFLICT DO NOTHING RETURNING worker)
INSERT INTO flows.heartbeats (worker, expires_at)
SELECT worker, clock_timestamp() + make_interval(secs => $4) FROM new
