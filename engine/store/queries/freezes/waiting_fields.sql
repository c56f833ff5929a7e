-- What is in entries that wait, or waited; of a copy also what is in the entry that it is a copy of.
SELECT w.generation, w.ms, w.seq, w.fields, o.fields AS original_fields
FROM unnest($2::integer[], $3::bigint[], $4::bigint[]) AS wanted(generation, ms, seq)
JOIN ledger.waiting w ON (w.shard, w.generation, w.ms, w.seq) = ($1, wanted.generation, wanted.ms, wanted.seq)
LEFT JOIN ledger.waiting o
       ON (o.shard, o.generation, o.ms, o.seq) = (w.shard, w.original_generation, w.original_ms, w.original_seq)
