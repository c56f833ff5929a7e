-- Which of some dead letters are there already: entries that were read twice, as after a crash.
SELECT d.shard, d.generation, d.ms, d.seq
FROM unnest($1::smallint[], $2::integer[], $3::bigint[], $4::bigint[]) AS l(shard, generation, ms, seq)
JOIN ledger.dead_letters d USING (shard, generation, ms, seq)
