SELECT shard_count FROM ledger.settings
