-- Its shards may be taken at once: it stopped, or its process is known to be gone.
UPDATE ledger.heartbeats SET expires_at = clock_timestamp()
WHERE worker = $1 AND expires_at > clock_timestamp()
