-- Those of some ids that the ledger knows.
SELECT id FROM unnest($1::uuid[]) AS wanted(id)
WHERE EXISTS (SELECT FROM ledger.spent s WHERE s.id = wanted.id)
