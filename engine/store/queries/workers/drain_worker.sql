-- It takes no shards by itself any more.
UPDATE ledger.heartbeats SET drained = true WHERE worker = ANY ($1::uuid[])
