-- What is there already by the ids of some dead letters, in their generation or in one that a
-- letter with the same id was put into.
SELECT DISTINCT d.shard, d.generation, d.ms, d.seq, d.fields
FROM unnest($1::smallint[], $2::integer[], $3::bigint[], $4::bigint[]) AS l(shard, generation, ms, seq)
JOIN ledger.dead_letters d ON d.shard = l.shard AND d.ms = l.ms AND d.seq = l.seq
    AND d.generation >= l.generation AND (d.generation - l.generation) % 4 = 0
