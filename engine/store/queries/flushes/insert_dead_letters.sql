-- Dead letters; one that was read twice is kept once. The fields of all of them come as one array,
-- in order, each with the place of its letter, from 1. Where a stream was begun anew, an id can
-- come again for another entry: it is kept in the first later generation in which it has room.
WITH RECURSIVE letters AS MATERIALIZED (
    SELECT l.*, coalesce(f.fields, '{}') AS fields
    FROM unnest($1::smallint[], $2::integer[], $3::bigint[], $4::bigint[], $5::text[])
         WITH ORDINALITY AS l(shard, generation, ms, seq, reason, place)
    LEFT JOIN (
        SELECT letter, array_agg(field ORDER BY place) AS fields
        FROM unnest($6::integer[], $7::bytea[]) WITH ORDINALITY AS f(letter, field, place)
        GROUP BY letter) f ON f.letter = l.place
), tried AS (
    SELECT place, generation FROM letters
    UNION ALL
    SELECT t.place, t.generation + 4
    FROM tried t
    JOIN letters l USING (place)
    JOIN ledger.dead_letters d ON d.shard = l.shard AND d.generation = t.generation
        AND d.ms = l.ms AND d.seq = l.seq AND d.fields <> l.fields
)
INSERT INTO ledger.dead_letters (shard, generation, ms, seq, reason, fields)
SELECT l.shard, t.generation, l.ms, l.seq, l.reason, l.fields
FROM letters l JOIN (SELECT place, max(generation) AS generation FROM tried GROUP BY place) t
    USING (place)
ON CONFLICT DO NOTHING
