INSERT INTO flows.inbox (flow, name, message_id, event, body, answer, number, received_at)
SELECT new.flow, new.name, new.message_id, new.event, new.body::jsonb, new.answer, new.number, $8
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::bigint[])
     AS new(flow, name, message_id, event, body, answer, number)
