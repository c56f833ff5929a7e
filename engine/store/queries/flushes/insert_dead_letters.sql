-- Dead letters, by the number of their flush ($8); one that is there already was left out. The fields of all of them come as one array,
-- in order, each with the place of its letter, from 1.
INSERT INTO ledger.dead_letters (shard, generation, ms, seq, reason, fields, flush)
SELECT l.shard, l.generation, l.ms, l.seq, l.reason, coalesce(f.fields, '{}'), $8
FROM unnest($1::smallint[], $2::integer[], $3::bigint[], $4::bigint[], $5::text[])
     WITH ORDINALITY AS l(shard, generation, ms, seq, reason, place)
LEFT JOIN (
    SELECT letter, array_agg(field ORDER BY place) AS fields
    FROM unnest($6::integer[], $7::bytea[]) WITH ORDINALITY AS f(letter, field, place)
    GROUP BY letter) f ON f.letter = l.place
RETURNING shard
