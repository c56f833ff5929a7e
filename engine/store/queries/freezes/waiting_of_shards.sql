-- The entries of some shards that wait, without what is in them.
SELECT w.shard, w.generation, w.ms, w.seq, w.freeze_number, w.flush, w.transfers, w.size, w.ids, w.digest,
       w.original_generation, w.original_ms, w.original_seq
FROM ledger.waiting w
WHERE w.shard = ANY ($1::smallint[])
  AND NOT EXISTS (SELECT FROM ledger.released r
                  WHERE (r.shard, r.generation, r.ms, r.seq) = (w.shard, w.generation, w.ms, w.seq))
