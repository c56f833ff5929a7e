-- Shards go from one worker to another, under the locks of both, and it is written down.
WITH changed AS (
    UPDATE ledger.owners SET worker = $3 WHERE shard = ANY ($1::smallint[]) AND worker = $2
    RETURNING shard)
INSERT INTO ledger.ownership (shard, flush, former, worker)
SELECT shard, $4, $2, $3 FROM changed
RETURNING shard
