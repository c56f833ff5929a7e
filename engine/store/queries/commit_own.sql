-- A commit of one's own, which waits for a synchronous standby as every commit does.
SELECT pg_current_xact_id()
