SELECT c.id, c.definition, c.version, c.state, c.step, c.waiting_for, c.started_at, c.reason
FROM flows.open o JOIN flows.current c ON c.id = o.flow
WHERE c.started_at <= clock_timestamp() - make_interval(secs => $1)
ORDER BY c.started_at LIMIT $2
