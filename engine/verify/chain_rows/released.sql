-- Entries that waited, with the flush that decided them.
SELECT flush, shard, generation, ms, seq
FROM ledger.released
WHERE flush BETWEEN $1 AND $2
ORDER BY flush, shard, generation, ms, seq
