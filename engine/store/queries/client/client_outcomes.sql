-- What became of ids, and when; those that are free are left out.
SELECT t.id, 'created' AS outcome, t.posted_at AS time
FROM ledger.transfers t WHERE t.id = ANY ($1::uuid[])
UNION ALL
SELECT d.id, d.outcome, d.declined_at
FROM ledger.declined d WHERE d.id = ANY ($1::uuid[])
