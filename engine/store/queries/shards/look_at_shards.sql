-- Every shard: its owner, for how long that one is alive, and the move that is open for it. And the
-- newest freeze or thaw.
SELECT o.shard, o.worker,
       coalesce(extract(epoch FROM h.expires_at - clock_timestamp()), 0)::float8 AS seconds_left,
       m.move, m.plan IS NOT NULL AS planned, m.source, m.target, m.state,
       (SELECT f.freeze_number FROM ledger.freezes f ORDER BY f.freeze_number DESC LIMIT 1) AS newest_freeze
FROM ledger.owners o
LEFT JOIN ledger.heartbeats h ON h.worker = o.worker
LEFT JOIN ledger.moves m ON m.shard = o.shard AND m.ended_at IS NULL
ORDER BY o.shard
