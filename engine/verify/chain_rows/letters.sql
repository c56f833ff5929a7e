-- Dead letters.
SELECT flush, shard, generation, ms, seq, reason, fields
FROM ledger.dead_letters
WHERE flush BETWEEN $1 AND $2
ORDER BY flush, shard, generation, ms, seq
