-- The next number in the chains of others, under their lock: their books are out of date now.
INSERT INTO ledger.flushes (worker, sequence, kind, time, other)
SELECT w.worker, 1 + coalesce((SELECT max(f.sequence) FROM ledger.flushes f
                               WHERE f.worker = w.worker), 0), $2, $3, $4
FROM unnest($1::uuid[]) AS w(worker)
ORDER BY w.worker
RETURNING sequence
