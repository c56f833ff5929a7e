SELECT shard, count(*) AS signals FROM flows.early WHERE shard = ANY ($1::smallint[]) GROUP BY shard
