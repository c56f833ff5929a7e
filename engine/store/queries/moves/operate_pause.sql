-- How long shards stood still when they were moved lately: the median, in seconds.
SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM pause))::float8 AS seconds
FROM (SELECT pause FROM ledger.shard_moves WHERE pause IS NOT NULL ORDER BY move DESC LIMIT 100) AS lately
