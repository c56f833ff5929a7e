-- The source let go of shards, whose last entries it decided $2 seconds ago.
UPDATE ledger.moves
SET state = 'released', released_at = clock_timestamp(),
    paused_at = clock_timestamp() - make_interval(secs => $2)
WHERE shard = ANY ($1::smallint[]) AND state = 'asked'
