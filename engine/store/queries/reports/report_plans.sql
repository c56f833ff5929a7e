-- Plans that were applied, the newest first, with how far their moves got.
SELECT p.plan::text AS plan, p.applied_by, p.state,
       to_char(p.began_at, 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS began_at,
       to_char(p.ended_at, 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS ended_at, p.why,
       count(m.move) FILTER (WHERE m.state IN ('asked', 'released', 'claimed')) AS moving,
       count(m.move) FILTER (WHERE m.state = 'done') AS moved,
       count(m.move) FILTER (WHERE m.state IN ('failed', 'aborted')) AS not_moved,
       extract(epoch FROM max(m.pause))::float8 AS pause_seconds_max
FROM (SELECT * FROM ledger.applied_plans ORDER BY began_at DESC LIMIT $1) p
LEFT JOIN ledger.shard_moves m ON m.plan = p.plan
GROUP BY p.plan, p.applied_by, p.state, p.began_at, p.ended_at, p.why
ORDER BY p.began_at DESC
