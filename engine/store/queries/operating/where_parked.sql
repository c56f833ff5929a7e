-- Entries with a transfer of that id that wait for a thaw; copies of them have none.
SELECT w.shard, w.entry, w.ms, w.seq,
       extract(epoch FROM clock_timestamp() - w.received_at)::float8 AS seconds, w.fields,
       w.kind, w.what, w.acted_by AS by, w.reason,
       to_char(w.frozen_at, 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS since
FROM ledger.waits w
WHERE w.ids @> ARRAY[$1::uuid]
ORDER BY w.generation, w.ms, w.seq
