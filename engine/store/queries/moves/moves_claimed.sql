-- A worker took shards: the moves to it go on, those to another come to nothing.
UPDATE ledger.moves
SET state = CASE WHEN target = $2 THEN 'claimed' ELSE 'failed' END,
    claimed_at = CASE WHEN target = $2 THEN clock_timestamp() END,
    ended_at = CASE WHEN target <> $2 THEN clock_timestamp() END,
    why = CASE WHEN target <> $2 THEN 'another worker took the shard' END
WHERE shard = ANY ($1::smallint[]) AND ended_at IS NULL
