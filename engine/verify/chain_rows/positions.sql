-- How far streams got.
SELECT flush, shard, generation, ms, seq, (extract(epoch
FROM time) * 1000000)::bigint AS time
FROM ledger.positions
WHERE flush BETWEEN $1 AND $2
ORDER BY flush, shard
