-- A new worker with an empty chain, alive for the length of a lease; $5 are the shards that it
-- was told to work on, null where it takes its share. Once, though the answer may be lost.
WITH new AS (
    INSERT INTO ledger.workers (worker, host, process, shards) VALUES ($1, $2, $3, $5)
    ON CONFLICT DO NOTHING RETURNING worker)
INSERT INTO ledger.heartbeats (worker, expires_at)
SELECT worker, clock_timestamp() + make_interval(secs => $4) FROM new
