-- Dead letters.
SELECT flush, shard, generation, ms, seq, reason, fields
FROM ledger.dead_letters
WHERE flush >= $1
ORDER BY flush, shard, generation, ms, seq
