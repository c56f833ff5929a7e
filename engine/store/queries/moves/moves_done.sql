-- The target reads on.
UPDATE ledger.moves
SET state = 'done', ready_at = clock_timestamp(), ended_at = clock_timestamp()
WHERE shard = ANY ($1::smallint[]) AND target = $2 AND state = 'claimed'
