-- Entries that waited and are decided now.
INSERT INTO ledger.released (shard, generation, ms, seq, flush)
SELECT r.shard, r.generation, r.ms, r.seq, $1
FROM unnest($2::smallint[], $3::integer[], $4::bigint[], $5::bigint[]) AS r(shard, generation, ms, seq)
RETURNING shard
