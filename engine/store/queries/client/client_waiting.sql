-- Of some ids those that wait for a thaw, and for which.
SELECT DISTINCT ON (wanted.id) wanted.id, w.kind, w.what, w.acted_by, w.reason
FROM unnest($1::uuid[]) AS wanted(id)
JOIN ledger.waits w ON w.ids @> ARRAY[wanted.id]
ORDER BY wanted.id, w.generation, w.ms, w.seq
