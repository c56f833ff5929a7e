DELETE FROM flows.schedules WHERE id = $1 RETURNING id
