-- Accounts of a ledger by id or by name.
SELECT a.id, a.name FROM ledger.accounts a
WHERE a.ledger = $1 AND (a.id = ANY ($2::uuid[]) OR a.name = ANY ($3::text[]))
