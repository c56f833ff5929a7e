-- Shards of workers that are not alive, or of its own, go to another, under the locks of both; the
-- chain of who loses them gets a row, so that what it has under way fails.
WITH changed AS (
    UPDATE flows.owners o SET worker = $3
    WHERE o.shard = ANY ($1::smallint[]) AND o.worker = $2
      AND ($2 = $5 OR NOT EXISTS (SELECT FROM flows.heartbeats h
                                  WHERE h.worker = $2 AND h.expires_at > clock_timestamp()))
    RETURNING o.shard),
lost AS (
    INSERT INTO flows.flushes (worker, sequence, kind)
    SELECT w.worker, 1 + coalesce((SELECT max(f.sequence) FROM flows.flushes f
                                   WHERE f.worker = w.worker), 0),
           CASE WHEN $2 = $5 THEN 'release' ELSE 'claim' END
    FROM (SELECT CASE WHEN $2 = $5 THEN $3 ELSE $2 END AS worker) w
    WHERE EXISTS (SELECT FROM changed)),
noted AS (
    INSERT INTO flows.ownership (shard, flush, former, worker)
    SELECT shard, $4, $2, $3 FROM changed)
SELECT shard FROM changed
