-- Changes of owner.
SELECT flush, shard, former, worker
FROM ledger.ownership
WHERE flush >= $1
ORDER BY flush, shard
