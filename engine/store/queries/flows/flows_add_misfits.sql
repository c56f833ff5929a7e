INSERT INTO flows.misfits (flow, name, message_id, event, body, answer, received_at)
SELECT new.flow, new.name, new.message_id, new.event, new.body::jsonb, new.answer, $7
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[])
     AS new(flow, name, message_id, event, body, answer)
ON CONFLICT DO NOTHING
