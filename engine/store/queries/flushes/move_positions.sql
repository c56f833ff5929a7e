-- How far the streams of the shards touched are decided now, and the shards' time.
INSERT INTO ledger.positions (shard, flush, generation, ms, seq, time)
SELECT p.shard, $1, p.generation, p.ms, p.seq, $6
FROM unnest($2::smallint[], $3::integer[], $4::bigint[], $5::bigint[]) AS p(shard, generation, ms, seq)
