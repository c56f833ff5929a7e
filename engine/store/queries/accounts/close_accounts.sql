UPDATE ledger.accounts a SET closed = changed.closed
FROM unnest($1::uuid[], $2::boolean[]) AS changed(id, closed)
WHERE a.id = changed.id
RETURNING a.number
