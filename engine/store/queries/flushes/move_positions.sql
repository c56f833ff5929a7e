-- How far the streams of the shards touched are decided now, and up to when their holds are resolved.
INSERT INTO ledger.positions (shard, flush, generation, ms, seq, time)
SELECT p.shard, $1, p.generation, p.ms, p.seq, p.time
FROM unnest($2::smallint[], $3::integer[], $4::bigint[], $5::bigint[], $6::timestamptz[])
     AS p(shard, generation, ms, seq, time)
RETURNING shard
