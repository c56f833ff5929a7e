SELECT i.flow, i.name, i.message_id, i.event, i.body::text AS body, i.answer
FROM unnest($1::uuid[], $2::text[], $3::text[]) AS wanted(flow, name, message_id)
JOIN flows.inbox i USING (flow, name, message_id)
