SELECT id, definition, version, state, "end", step, waiting_for, started_at, ended_at, reason
FROM flows.current WHERE id = ANY ($1::uuid[])
