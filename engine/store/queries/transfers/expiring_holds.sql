-- Open holds of some shards that are to lapse after `since` (by shard) and up to a time: the
-- earliest, so many, and what lapses with the last of them.
SELECT s.id, s.expires_at
FROM unnest($1::smallint[], $2::timestamptz[]) AS wanted(shard, since)
CROSS JOIN LATERAL (
    SELECT s.id, s.expires_at FROM ledger.spent s
    WHERE s.shard = wanted.shard AND s.expires_at > wanted.since AND s.expires_at <= $3
      AND s.outcome = 0 AND s.flags & 2 <> 0
      AND NOT EXISTS (SELECT FROM ledger.resolutions r WHERE r.hold_id = s.id)
    ORDER BY s.expires_at FETCH FIRST ($4::bigint) ROWS WITH TIES) s
ORDER BY s.expires_at FETCH FIRST ($4::bigint) ROWS WITH TIES
