-- Ask for shards; where a move is open for one already, that one stays.
INSERT INTO ledger.moves (plan, shard, source, target, asked_by)
SELECT $1, a.shard, a.source, a.target, $5
FROM unnest($2::smallint[], $3::uuid[], $4::uuid[]) AS a(shard, source, target)
ON CONFLICT DO NOTHING
