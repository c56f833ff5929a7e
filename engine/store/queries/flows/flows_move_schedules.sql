-- What was started is over; one that was moved or removed meanwhile is let be.
UPDATE flows.schedules s
SET nominal = m.nominal, next_at = m.next_at, last_nominal = s.nominal, last_outcome = m.outcome
FROM unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::timestamptz[], $5::text[])
     AS m(id, former, nominal, next_at, outcome)
WHERE s.id = m.id AND s.nominal = m.former
