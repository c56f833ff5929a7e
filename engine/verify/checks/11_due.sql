-- No hold is pending that had to lapse by the time of its shard.
-- Counts: holds that may lapse
--
-- The shard's time is that of its newest position: all that was due by then is resolved. It says
-- nothing about the clock: a shard without traffic and without due holds stands still.
SELECT 'holds that may lapse' AS what,
       CASE WHEN s.expires_at <= shards.time THEN 'it is pending after its time' END AS fault,
       s.number AS place,
       jsonb_build_object('hold_id', s.id, 'shard', s.shard, 'expires_at', s.expires_at,
                          'shard_time', shards.time) AS offender
FROM ledger.spent s
LEFT JOIN (SELECT shard, max(time) AS time FROM ledger.positions GROUP BY shard) AS shards
       ON shards.shard = s.shard
WHERE s.outcome = 0 AND s.expires_at IS NOT NULL
  AND NOT EXISTS (SELECT FROM ledger.resolutions r WHERE r.hold_id = s.id)
