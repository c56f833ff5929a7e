INSERT INTO flows.schedules (id, shard, name, input, rule, timezone, missed, added_by, nominal, next_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
ON CONFLICT DO NOTHING
RETURNING id
