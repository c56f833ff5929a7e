-- Of some ids those that wait for a thaw, and for which.
SELECT DISTINCT ON (wanted.id) wanted.id, f.kind, f.what, f.acted_by, f.reason
FROM unnest($1::uuid[]) AS wanted(id)
JOIN ledger.waiting w ON w.ids @> ARRAY[wanted.id]
JOIN ledger.freezes f USING (freeze_number)
WHERE NOT EXISTS (SELECT FROM ledger.released r
                  WHERE (r.shard, r.generation, r.ms, r.seq) = (w.shard, w.generation, w.ms, w.seq))
ORDER BY wanted.id, w.generation, w.ms, w.seq
