SELECT shard FROM ledger.owners WHERE worker = $1
