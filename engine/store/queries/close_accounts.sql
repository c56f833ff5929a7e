UPDATE ledger.accounts a SET closed = changed.closed
FROM unnest($1::bigint[], $2::boolean[]) AS changed(number, closed)
WHERE a.number = changed.number
