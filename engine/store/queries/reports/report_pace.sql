-- The last seconds, by flushes: what they decided, and how old the newest entry of each shard in each
-- flush was when it was decided, by the clocks of Redis and of the worker.
WITH lately AS MATERIALIZED (
    SELECT f.number, f.kind, f.time, f.transfers, f.declined
    FROM (SELECT * FROM ledger.flushes ORDER BY number DESC LIMIT 10000) f
    WHERE f.time > clock_timestamp() - make_interval(secs => $1)),
-- A flush may move only the time of a shard: what counts are those that took an entry of it.
first AS (
    SELECT min(n.number) AS number
    FROM (SELECT l.number FROM lately l ORDER BY l.number DESC LIMIT 200) n),
steps AS (
    SELECT p.flush, p.ms, (p.ms, p.seq) IS DISTINCT FROM
           (coalesce(lag(p.ms) OVER earlier, 0), coalesce(lag(p.seq) OVER earlier, 0)) AS is_moved
    FROM first f
    CROSS JOIN ledger.shard_owners o
    CROSS JOIN LATERAL (
        (SELECT p.* FROM ledger.shard_progress p WHERE p.shard = o.shard AND p.flush >= f.number)
        UNION ALL
        (SELECT p.* FROM ledger.shard_progress p WHERE p.shard = o.shard AND p.flush < f.number
         ORDER BY p.flush DESC LIMIT 1)) p
    WINDOW earlier AS (PARTITION BY p.shard ORDER BY p.flush)),
ages AS (
    SELECT greatest(extract(epoch FROM l.time)::float8 - s.ms / 1000.0::float8, 0) AS seconds
    FROM steps s JOIN lately l ON l.number = s.flush WHERE s.is_moved)
SELECT coalesce(sum(l.transfers), 0) / $1::float8 AS created_per_second,
       coalesce(sum(l.declined), 0) / $1::float8 AS declined_per_second,
       count(*) FILTER (WHERE l.kind IN ('flush', 'locked')) / $1::float8 AS flushes_per_second,
       count(*) FILTER (WHERE l.kind = 'locked') / $1::float8 AS locked_per_second,
       (SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY a.seconds) FROM ages a) AS decided_seconds_median,
       (SELECT percentile_disc(0.99) WITHIN GROUP (ORDER BY a.seconds) FROM ages a) AS decided_seconds_p99
FROM lately l
