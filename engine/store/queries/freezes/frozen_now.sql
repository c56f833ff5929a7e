-- What is frozen, with what waits that met it first.
SELECT f.freeze_number, f.kind, f.what, f.declines, f.acted_by AS by, f.reason, f.role,
       to_char(f.time, 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS since,
       count(w.shard) AS entries, coalesce(sum(w.transfers), 0)::bigint AS transfers,
       to_char(min(w.received_at), 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS oldest
FROM ledger.frozen f LEFT JOIN ledger.waits w USING (freeze_number)
GROUP BY f.freeze_number, f.kind, f.what, f.declines, f.acted_by, f.reason, f.role, f.time
ORDER BY f.freeze_number
