-- The last number in a worker's chain, and its shards, in one snapshot.
SELECT (SELECT coalesce(max(f.sequence), 0) FROM flows.flushes f WHERE f.worker = $1) AS sequence,
       ARRAY(SELECT o.shard FROM flows.owners o WHERE o.worker = $1)::integer[] AS shards,
       nextval('flows.flush_numbers') AS number, clock_timestamp() AS now
