-- Who owns these shards now, and whether it is still alive.
SELECT o.shard, o.worker, coalesce(h.expires_at > clock_timestamp(), false) AS alive
FROM ledger.owners o LEFT JOIN ledger.heartbeats h ON h.worker = o.worker
WHERE o.shard = ANY ($1::smallint[])
ORDER BY o.shard
