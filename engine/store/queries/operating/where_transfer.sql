-- A spent id with all that the ledger keeps of it: the flush that decided it, how far that flush came
-- in the stream the request came by, and the hold that it is or resolves. By indexes alone.
SELECT s.id::text AS id, o.name AS outcome, s.shard::integer AS shard,
       coalesce(d.id, ledger.uuid_at(s.request, 16))::text AS debit_account_id,
       coalesce(c.id, ledger.uuid_at(s.request, 32))::text AS credit_account_id,
       trunc(coalesce(s.amount, ledger.little_endian(s.request, 48, 16)))::text AS amount,
       coalesce(d.ledger, ledger.little_endian(s.request, 112, 4)::bigint) AS ledger,
       coalesce(s.code, ledger.little_endian(s.request, 116, 2)::integer) AS code,
       ledger.transfer_flags(s.flags) AS flags,
       nullif(coalesce(s.pending_id, ledger.uuid_at(s.request, 64)),
              '00000000-0000-0000-0000-000000000000')::text AS pending_id,
       to_char(s.expires_at, 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS expires_at,
       s.expires_at < clock_timestamp() AS is_overdue,
       f.worker::text AS worker, w.host, w.process, f.number AS flush, f.kind,
       to_char(f.time, 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS decided_at,
       p.ms || '-' || p.seq AS entry, b.ms || '-' || b.seq AS entry_after,
       r.status AS resolution, r.transfer_id::text AS resolved_by,
       to_char(rf.time, 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS resolved_at
FROM ledger.spent s
JOIN ledger.outcomes o ON o.number = s.outcome
JOIN ledger.flushes f ON f.number = s.number >> 20
LEFT JOIN ledger.workers w ON w.worker = f.worker
LEFT JOIN ledger.accounts d ON d.number = s.debit_account
LEFT JOIN ledger.accounts c ON c.number = s.credit_account
LEFT JOIN ledger.resolutions r ON r.hold_id = s.id
LEFT JOIN ledger.flushes rf ON rf.number = r.number >> 20
LEFT JOIN LATERAL (SELECT p.ms, p.seq FROM ledger.positions p
                   WHERE p.shard = s.shard AND p.flush = f.number) p ON true
LEFT JOIN LATERAL (SELECT p.ms, p.seq FROM ledger.positions p
                   WHERE p.shard = s.shard AND p.flush < f.number ORDER BY p.flush DESC LIMIT 1) b ON true
WHERE s.id = $1
