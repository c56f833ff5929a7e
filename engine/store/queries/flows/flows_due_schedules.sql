-- What is to be started by a time, of some shards.
SELECT id, name, input, rule, timezone, missed, added_by, nominal, next_at
FROM flows.schedules
WHERE shard = ANY ($1::smallint[]) AND next_at <= $2 ORDER BY next_at LIMIT $3
