INSERT INTO flows.steps (flow, seq, step, state, event, attempt, due_at, transfer_id, reference,
                         signal, request, detail, at, number)
SELECT new.flow, new.seq, new.step, new.state, new.event, new.attempt, new.due_at, new.transfer_id,
       new.reference, new.signal, new.request, new.detail::jsonb, $13, $14
FROM unnest($1::uuid[], $2::smallint[], $3::smallint[], $4::text[], $5::text[], $6::integer[],
            $7::timestamptz[], $8::uuid[], $9::text[], $10::bigint[], $11::bytea[], $12::text[])
     AS new(flow, seq, step, state, event, attempt, due_at, transfer_id, reference, signal, request,
            detail)
