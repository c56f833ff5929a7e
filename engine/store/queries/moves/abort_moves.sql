-- Moves that were asked for by plans, and that nobody has begun, come to nothing.
UPDATE ledger.moves SET state = 'aborted', why = $1, ended_at = clock_timestamp()
WHERE state = 'asked' AND plan IS NOT NULL AND ($2::uuid IS NULL OR plan = $2)
RETURNING shard::integer AS shard
