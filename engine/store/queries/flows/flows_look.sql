-- Who owns each shard, and whether that worker is alive; and how many are.
SELECT o.shard, o.worker, coalesce(h.expires_at > clock_timestamp(), false) AS alive,
       (SELECT count(*) FROM flows.heartbeats a WHERE a.expires_at > clock_timestamp()) AS workers
FROM flows.owners o LEFT JOIN flows.heartbeats h ON h.worker = o.worker
ORDER BY o.shard
