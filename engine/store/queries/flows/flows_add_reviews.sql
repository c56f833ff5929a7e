INSERT INTO flows.reviews (flow, seq, question, answers, asked_at, due_at)
SELECT new.flow, new.seq, new.question, ARRAY(SELECT jsonb_array_elements_text(new.answers::jsonb)),
       $6, new.due_at
FROM unnest($1::uuid[], $2::smallint[], $3::text[], $4::text[], $5::timestamptz[])
     AS new(flow, seq, question, answers, due_at)
