-- Signals that nobody has started a flow for, the oldest first.
SELECT number, shard FROM flows.early
WHERE shard = ANY ($1::smallint[]) AND received_at < $2 ORDER BY received_at LIMIT $3
