INSERT INTO flows.early (number, flow, shard, received_at)
SELECT new.number, new.flow, new.shard, $4
FROM unnest($1::bigint[], $2::uuid[], $3::smallint[]) AS new(number, flow, shard)
