-- What a worker decided of each of its shards, a second, and the slowest answer of each and commit.
INSERT INTO ledger.loads (shard, worker, transfers_per_second, answer_seconds, commit_seconds)
SELECT m.shard, $1, m.rate, m.answer, $5
FROM unnest($2::smallint[], $3::float8[], $4::float8[]) AS m(shard, rate, answer)
ON CONFLICT (shard) DO UPDATE SET worker = excluded.worker,
    transfers_per_second = excluded.transfers_per_second, answer_seconds = excluded.answer_seconds,
    commit_seconds = excluded.commit_seconds, measured_at = clock_timestamp()
