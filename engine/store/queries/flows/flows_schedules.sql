SELECT id, name, input, rule, timezone, missed, added_by, added_at, next_at, last_outcome
FROM flows.schedules WHERE $1::uuid IS NULL OR id = $1 ORDER BY next_at, id LIMIT $2
