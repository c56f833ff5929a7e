-- What is to be looked at by a time, of some shards.
SELECT flow, wake_at FROM flows.open
WHERE shard = ANY ($1::smallint[]) AND wake_at > $2 AND wake_at <= $3 ORDER BY wake_at
