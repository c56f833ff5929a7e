-- A spent id with all that the ledger keeps of it: the flush that decided it, how far that flush came
-- in the stream the request came by, and the hold that it is or resolves. By indexes alone.
SELECT d.id::text AS id, d.outcome, d.shard, d.debit_account_id::text AS debit_account_id,
       d.credit_account_id::text AS credit_account_id, d.amount::text AS amount, d.ledger, d.code,
       d.flags, d.pending_id::text AS pending_id,
       to_char(d.expires_at, 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS expires_at,
       d.expires_at < clock_timestamp() AS is_overdue,
       d.worker::text AS worker, w.host, w.process, d.flush, d.kind,
       to_char(d.decided_at, 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS decided_at, d.entry, d.entry_after,
       d.resolution, d.resolved_by::text AS resolved_by,
       to_char(d.resolved_at, 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS resolved_at
FROM ledger.decisions d
LEFT JOIN ledger.workers w ON w.worker = d.worker
WHERE d.id = $1
