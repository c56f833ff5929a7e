-- Which entries are kept as dead letters, or waited for a thaw, of those in some shards.
SELECT shard::integer AS shard, ms, seq FROM ledger.dead_letters WHERE shard = ANY ($1::smallint[])
UNION ALL
SELECT shard::integer, ms, seq FROM ledger.waiting WHERE shard = ANY ($1::smallint[])
