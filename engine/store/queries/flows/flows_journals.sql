SELECT flow, seq, step, state, event, attempt, due_at, transfer_id, reference, signal, request,
       detail::text AS detail, at
FROM flows.steps WHERE flow = ANY ($1::uuid[]) ORDER BY flow, seq
