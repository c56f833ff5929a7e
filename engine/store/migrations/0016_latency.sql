-- How long answers and commits took lately, beside the load of each shard.

ALTER TABLE ledger.loads ADD COLUMN answer_seconds double precision;
ALTER TABLE ledger.loads ADD COLUMN commit_seconds double precision;
COMMENT ON COLUMN ledger.loads.answer_seconds IS
    'The slowest of its entries, from when Redis took it until its outcomes were committed';
COMMENT ON COLUMN ledger.loads.commit_seconds IS
    'The slowest commit of its owner, over all of that one''s shards';

CREATE OR REPLACE VIEW ledger.shard_loads AS
SELECT l.shard, l.worker, l.transfers_per_second, l.measured_at, l.answer_seconds, l.commit_seconds
FROM ledger.loads l;
