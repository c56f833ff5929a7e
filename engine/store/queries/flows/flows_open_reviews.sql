SELECT r.flow AS id, r.seq::integer AS seq, r.question, r.answers, r.asked_at, r.due_at,
       f.started_by,
       (SELECT coalesce(max(i.number), 0) FROM flows.inbox i
        WHERE i.flow = r.flow AND i.name NOT LIKE ':%') AS seen
FROM flows.reviews r JOIN flows.flows f ON f.id = r.flow
WHERE r.ended_at IS NULL AND ($1::uuid IS NULL OR r.flow = $1)
ORDER BY r.asked_at, r.flow LIMIT $2
