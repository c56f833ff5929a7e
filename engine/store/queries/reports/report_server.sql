-- What one asks first: which server, which ledger, what lies aside, what is overdue.
SELECT current_setting('server_version') AS version,
       (SELECT shard_count FROM ledger.settings) AS shard_count,
       (SELECT max(number) FROM ledger.versions) AS migration,
       (SELECT count(*) FROM ledger.letters l WHERE l.state = 'open') AS dead_letters,
       h.overdue AS holds_overdue, h.pending AS holds_pending,
       (SELECT coalesce(sum(f.transfers), 0)::bigint
        FROM (SELECT * FROM ledger.flushes ORDER BY number DESC LIMIT 10000) f
        WHERE f.time > clock_timestamp() - interval '10 s') AS transfers_in_10_seconds
FROM ledger.hold_counts($1) h
