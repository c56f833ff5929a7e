-- The workers that are alive, and the shards that they were told to work on.
SELECT w.worker, w.shards, h.drained
FROM ledger.heartbeats h JOIN ledger.workers w ON w.worker = h.worker
WHERE h.expires_at > clock_timestamp()
ORDER BY w.worker
