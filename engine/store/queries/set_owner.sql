UPDATE ledger.owners SET worker = $2 WHERE shard = ANY ($1::smallint[])
