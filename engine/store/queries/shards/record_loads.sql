-- What a worker decided of each of its shards, a second.
INSERT INTO ledger.loads (shard, worker, transfers_per_second)
SELECT m.shard, $1, m.rate FROM unnest($2::smallint[], $3::float8[]) AS m(shard, rate)
ON CONFLICT (shard) DO UPDATE SET worker = excluded.worker,
    transfers_per_second = excluded.transfers_per_second, measured_at = clock_timestamp()
