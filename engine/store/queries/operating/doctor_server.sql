-- Postgres and the ledger in it, as far as this role may look: what may not be seen is null.
SELECT current_setting('server_version') AS version,
       current_setting('server_version_num')::integer / 10000 AS version_major,
       extract(epoch FROM clock_timestamp())::float8 AS clock,
       pg_is_in_recovery() AS is_standby,
       current_setting('fsync') AS fsync,
       current_setting('full_page_writes') AS full_page_writes,
       (SELECT s.reset_val FROM pg_settings s WHERE s.name = 'synchronous_commit') AS synchronous_commit,
       current_setting('synchronous_standby_names') AS synchronous_standbys,
       (SELECT count(*) FROM pg_stat_replication r WHERE r.sync_state IN ('sync', 'quorum'))
       AS synchronous_standbys_there,
       current_setting('autovacuum') AS autovacuum,
       current_setting('autovacuum_freeze_max_age')::bigint AS freeze_age_max,
       (SELECT max(age(d.datfrozenxid)) FROM pg_database d)::bigint AS transaction_age,
       current_setting('max_connections')::integer AS connections_max,
       (SELECT count(*) FROM pg_stat_activity a WHERE a.backend_type = 'client backend') AS connections,
       (SELECT s.setting FROM pg_settings s WHERE s.name = 'data_directory') AS data_directory,
       pg_database_size(current_database()) AS database_bytes,
       (SELECT coalesce(max(pg_wal_lsn_diff(CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn()
                                                 ELSE pg_current_wal_lsn() END, r.restart_lsn)), 0)
        FROM pg_replication_slots r WHERE NOT r.active)::bigint AS idle_slot_bytes,
       (SELECT max(m.number) FROM ledger.migrations m) AS migration,
       (SELECT n.last_value FROM ledger.flush_numbers n) AS flush_numbers,
       coalesce((SELECT f.number FROM ledger.flushes f ORDER BY f.number DESC LIMIT 1), 0) AS newest_flush,
       coalesce((SELECT extract(epoch FROM f.time) FROM ledger.flushes f ORDER BY f.number DESC LIMIT 1), 0)::float8
       AS newest_flush_time,
       coalesce(pg_sequence_last_value(pg_get_serial_sequence('ledger.accounts', 'number')), 0) AS account_numbers,
       coalesce((SELECT a.number FROM ledger.accounts a ORDER BY a.number DESC LIMIT 1), 0) AS newest_account,
       (SELECT count(*) FROM ledger.letters l WHERE l.state = 'open') AS letters_open,
       (SELECT l.letter FROM ledger.letters l WHERE l.state = 'open'
        ORDER BY l.received_at DESC LIMIT 1) AS letter_newest,
       coalesce((SELECT max(extract(epoch FROM m.pause)) FROM (SELECT * FROM ledger.moves ORDER BY move DESC LIMIT 1024) m
                 WHERE m.ended_at > clock_timestamp() - interval '10 minutes'), 0)::float8 AS pause_seconds,
       (SELECT extract(epoch FROM clock_timestamp() - v.ended_at) FROM ledger.verifications v
        ORDER BY v.verification DESC LIMIT 1)::float8 AS verified_seconds_ago,
       (SELECT v.passed FROM ledger.verifications v ORDER BY v.verification DESC LIMIT 1) AS verified_passed,
       (SELECT v.failed FROM ledger.verifications v ORDER BY v.verification DESC LIMIT 1) AS verified_failed
