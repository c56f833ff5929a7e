SELECT s.seq, d.source -> 'steps' -> s.step::integer ->> 'name' AS step, s.state,
       nullif(s.event, '') AS event, s.attempt, s.due_at, s.transfer_id, s.at
FROM flows.steps s JOIN flows.flows f ON f.id = s.flow JOIN flows.definitions d USING (definition)
WHERE s.flow = $1 ORDER BY s.seq
