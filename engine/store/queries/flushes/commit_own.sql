-- A commit of one's own. It writes a record, in the log and in no table: Postgres does not wait for
-- a synchronous standby where a transaction wrote none.
SELECT pg_logical_emit_message(true, 'engine', 'all that was visible before is confirmed')
