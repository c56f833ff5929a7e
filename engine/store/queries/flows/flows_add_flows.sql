INSERT INTO flows.flows (id, definition, outcome, name, shard, depth, input, accounts, started_by,
                         started_at, number)
SELECT new.id, new.definition, new.outcome, new.name, new.shard, new.depth, new.input,
       new.accounts::jsonb, new.started_by, $10, $11
FROM unnest($1::uuid[], $2::smallint[], $3::text[], $4::text[], $5::smallint[], $6::smallint[],
            $7::bytea[], $8::text[], $9::text[])
     AS new(id, definition, outcome, name, shard, depth, input, accounts, started_by)
