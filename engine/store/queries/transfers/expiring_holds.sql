-- Holds of some shards that are to lapse after `since` (by shard) and up to a time.
SELECT s.id, s.expires_at
FROM unnest($1::smallint[], $2::timestamptz[]) AS wanted(shard, since)
JOIN ledger.spent s ON s.shard = wanted.shard
                   AND s.expires_at > wanted.since AND s.expires_at <= $3
WHERE NOT EXISTS (SELECT FROM ledger.resolutions r WHERE r.hold_id = s.id)
