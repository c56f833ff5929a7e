-- Entries that wait or waited, with the flush that moved the position past them.
SELECT flush, shard, generation, ms, seq, original_generation, original_ms, original_seq,
       freeze_number, transfers, size, ids, digest, fields
FROM ledger.waiting
WHERE flush BETWEEN $1 AND $2
ORDER BY flush, shard, generation, ms, seq
