INSERT INTO flows.dead_letters (stream, entry, reason, fields) VALUES ($1, $2, $3, $4)
ON CONFLICT DO NOTHING
