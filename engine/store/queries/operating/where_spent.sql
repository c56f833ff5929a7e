-- What became of some ids; those that are free are left out.
SELECT t.id::text AS id, 'created' AS outcome FROM ledger.transfers t WHERE t.id = ANY ($1::uuid[])
UNION ALL
SELECT d.id::text, d.outcome FROM ledger.declined d WHERE d.id = ANY ($1::uuid[])
