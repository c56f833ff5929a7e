-- The workers that are alive: where they are, and whether they take shards.
SELECT w.worker::text AS worker, w.host, w.process, w.shards, h.drained
FROM ledger.leases h JOIN ledger.workers w ON w.worker = h.worker
WHERE h.expires_at > clock_timestamp()
ORDER BY w.started_at, w.worker
