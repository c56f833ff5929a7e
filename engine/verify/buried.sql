-- Which entries are kept as dead letters, of those in some shards.
SELECT shard::integer AS shard, ms, seq FROM ledger.dead_letters WHERE shard = ANY ($1::smallint[])
