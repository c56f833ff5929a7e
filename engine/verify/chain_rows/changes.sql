-- Changes of owner.
SELECT flush, shard, former, worker
FROM ledger.ownership
WHERE flush BETWEEN $1 AND $2
ORDER BY flush, shard
