-- Entries that wait. What an entry has of ids and of fields comes in one array of all, each with the
-- place of its entry, from 1.
INSERT INTO ledger.waiting (shard, generation, ms, seq, freeze_number, flush, transfers, size, digest,
                            original_generation, original_ms, original_seq, ids, fields)
SELECT w.shard, w.generation, w.ms, w.seq, w.freeze_number, $1, w.transfers, w.size, w.digest,
       w.original_generation, w.original_ms, w.original_seq,
       coalesce(i.ids, '{}'), coalesce(f.fields, '{}')
FROM unnest($2::smallint[], $3::integer[], $4::bigint[], $5::bigint[], $6::bigint[], $7::integer[],
            $8::integer[], $9::bytea[], $10::integer[], $11::bigint[], $12::bigint[])
     WITH ORDINALITY AS w(shard, generation, ms, seq, freeze_number, transfers, size, digest,
                          original_generation, original_ms, original_seq, place)
LEFT JOIN (
    SELECT entry, array_agg(id ORDER BY place) AS ids
    FROM unnest($13::integer[], $14::uuid[]) WITH ORDINALITY AS i(entry, id, place)
    GROUP BY entry) i ON i.entry = w.place
LEFT JOIN (
    SELECT entry, array_agg(field ORDER BY place) AS fields
    FROM unnest($15::integer[], $16::bytea[]) WITH ORDINALITY AS f(entry, field, place)
    GROUP BY entry) f ON f.entry = w.place
RETURNING shard
