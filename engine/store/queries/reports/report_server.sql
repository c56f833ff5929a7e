-- What one asks first: which server, which ledger, what lies aside, what is overdue.
SELECT current_setting('server_version') AS version,
       (SELECT shard_count FROM ledger.settings) AS shard_count,
       (SELECT max(number) FROM ledger.migrations) AS migration,
       (SELECT count(*) FROM ledger.letters l WHERE l.state = 'open') AS dead_letters,
       -- By the index on expires_at: between a shard's time, up to which all is resolved, and now.
       (SELECT count(*)
        FROM ledger.owners o
        LEFT JOIN LATERAL (SELECT p.time FROM ledger.positions p WHERE p.shard = o.shard
                           ORDER BY p.flush DESC LIMIT 1) p ON true
        JOIN ledger.spent s ON s.shard = o.shard
                           AND s.expires_at > coalesce(p.time, '-infinity')
                           AND s.expires_at <= clock_timestamp() - make_interval(secs => $1)
        WHERE NOT EXISTS (SELECT FROM ledger.resolutions r WHERE r.hold_id = s.id)) AS holds_overdue,
       -- Those that wait to be resolved before they lapse; no more are counted than one would read.
       (SELECT count(*)
        FROM (SELECT FROM ledger.owners o
              JOIN ledger.spent s ON s.shard = o.shard AND s.expires_at > clock_timestamp()
              WHERE NOT EXISTS (SELECT FROM ledger.resolutions r WHERE r.hold_id = s.id)
              LIMIT 100000) AS pending) AS holds_pending,
       (SELECT coalesce(sum(f.transfers), 0)::bigint
        FROM (SELECT * FROM ledger.flushes ORDER BY number DESC LIMIT 10000) f
        WHERE f.time > clock_timestamp() - interval '10 s') AS transfers_in_10_seconds
