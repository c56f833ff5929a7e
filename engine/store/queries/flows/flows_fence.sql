-- The worker's next number, under the lock of its row: a unique violation when it was taken.
WITH me AS (SELECT worker FROM flows.workers WHERE worker = $1 FOR UPDATE)
INSERT INTO flows.flushes (worker, sequence, number, kind, time, steps)
SELECT me.worker, $2, $3, $4, $5, $6 FROM me
RETURNING nextval('flows.flush_numbers') AS next_number
