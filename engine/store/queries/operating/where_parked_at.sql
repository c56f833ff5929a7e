-- Of some shards, the entries of that id that wait for a thaw.
SELECT w.shard::integer AS shard, w.ms || '-' || w.seq AS entry, w.ms, w.seq,
       extract(epoch FROM clock_timestamp() - w.received_at)::float8 AS seconds, w.fields,
       f.kind, f.what, f.acted_by AS by, f.reason,
       to_char(f.time, 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS since
FROM ledger.waiting w
JOIN ledger.freezes f USING (freeze_number)
WHERE w.shard = ANY ($1::smallint[]) AND w.ms = $2 AND w.seq = $3
  AND NOT EXISTS (SELECT FROM ledger.released r
                  WHERE (r.shard, r.generation, r.ms, r.seq) = (w.shard, w.generation, w.ms, w.seq))
ORDER BY w.generation, w.ms, w.seq
