-- Every shard: its owner, and what that one measured of it lately, in transfers a second.
SELECT o.shard::integer AS shard, o.worker::text AS worker,
       coalesce(h.expires_at > clock_timestamp(), false) AS alive,
       CASE WHEN l.worker = o.worker AND l.measured_at > clock_timestamp() - interval '15 s'
            THEN l.transfers_per_second ELSE 0 END AS transfers_per_second,
       coalesce(p.generation, 0) AS generation, coalesce(p.ms, 0) AS ms, coalesce(p.seq, 0) AS seq
FROM ledger.shard_owners o
LEFT JOIN ledger.leases h ON h.worker = o.worker
LEFT JOIN ledger.shard_loads l ON l.shard = o.shard
LEFT JOIN LATERAL (SELECT * FROM ledger.shard_progress p WHERE p.shard = o.shard
                   ORDER BY p.flush DESC LIMIT 1) p ON true
ORDER BY o.shard
