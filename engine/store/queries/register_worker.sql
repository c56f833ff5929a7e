-- A new worker with an empty chain, alive for the length of a lease.
WITH new AS (
    INSERT INTO ledger.workers (worker, host, process) VALUES ($1, $2, $3) RETURNING worker)
INSERT INTO ledger.heartbeats (worker, expires_at)
SELECT worker, clock_timestamp() + make_interval(secs => $4) FROM new
