-- The newest move of each shard that a plan asked for.
SELECT DISTINCT ON (m.shard) m.move, m.shard::integer AS shard, m.source::text AS source,
       m.target::text AS target, m.state, m.why,
       extract(epoch FROM m.pause)::float8 AS pause_seconds
FROM ledger.moves m
WHERE m.plan = $1
ORDER BY m.shard, m.move DESC
