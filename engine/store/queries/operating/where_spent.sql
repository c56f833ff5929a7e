-- What became of some ids; those that are free are left out.
SELECT s.id::text AS id, o.name AS outcome FROM ledger.spent s
JOIN ledger.outcomes o ON o.number = s.outcome
WHERE s.id = ANY ($1::uuid[])
