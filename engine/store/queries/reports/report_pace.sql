-- The last seconds, by flushes: what they decided, and how old the newest entry of each shard in each
-- flush was when it was decided, by the clocks of Redis and of the worker.
WITH lately AS MATERIALIZED (
    SELECT f.number, f.kind, f.time, f.transfers, f.declined
    FROM (SELECT * FROM ledger.flushes ORDER BY number DESC LIMIT 10000) f
    WHERE f.time > clock_timestamp() - make_interval(secs => $1)),
ages AS (
    SELECT greatest(extract(epoch FROM l.time)::float8 - p.ms / 1000.0::float8, 0) AS seconds
    FROM ledger.shard_owners o
    CROSS JOIN LATERAL (
        SELECT p.flush, p.ms FROM ledger.shard_progress p
        WHERE p.shard = o.shard AND p.flush >= (SELECT min(l.number) FROM lately l)
        ORDER BY p.flush DESC LIMIT 200) p
    JOIN lately l ON l.number = p.flush AND l.kind IN ('flush', 'locked') AND l.transfers + l.declined > 0)
SELECT coalesce(sum(l.transfers), 0) / $1::float8 AS created_per_second,
       coalesce(sum(l.declined), 0) / $1::float8 AS declined_per_second,
       count(*) FILTER (WHERE l.kind IN ('flush', 'locked')) / $1::float8 AS flushes_per_second,
       count(*) FILTER (WHERE l.kind = 'locked') / $1::float8 AS locked_per_second,
       (SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY a.seconds) FROM ages a) AS decided_seconds_median,
       (SELECT percentile_disc(0.99) WITHIN GROUP (ORDER BY a.seconds) FROM ages a) AS decided_seconds_p99
FROM lately l
