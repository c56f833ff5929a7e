-- What roles with few privileges need: rows that they may lock and not change, views that ask for
-- nothing beneath them, and functions that do for them the one thing that they may not do themselves.
--
-- Who may do what is said in `grants.sql`; `engine roles` makes the roles.

CREATE TABLE ledger.roles (
    kind text PRIMARY KEY CHECK (kind IN ('engine', 'creator', 'reader')),
    role text NOT NULL UNIQUE
);
COMMENT ON TABLE ledger.roles IS
    'The roles of this ledger, by what they may: `engine init` gives them what new tables ask for';

-- ---------------------------------------------------------------- rows that are locked

-- SELECT ... FOR UPDATE asks for UPDATE of some column.
ALTER TABLE ledger.workers ADD COLUMN queue boolean;
COMMENT ON COLUMN ledger.workers.queue IS 'Means nothing: whoever may UPDATE it may lock the row';
ALTER TABLE ledger.settings ADD COLUMN queue boolean;
COMMENT ON COLUMN ledger.settings.queue IS 'Means nothing: whoever may UPDATE it may lock the row';
ALTER TABLE flows.workers ADD COLUMN queue boolean;
COMMENT ON COLUMN flows.workers.queue IS 'Means nothing: whoever may UPDATE it may lock the row';

-- ---------------------------------------------------------------- views and functions

-- A function in a view reads with the rights of whoever asks, so `newest` is written out.
CREATE OR REPLACE VIEW ledger.balances AS
SELECT a.id AS account_id,
       ledger.saturated(b.debits_pending) AS debits_pending,
       ledger.saturated(b.debits_posted) AS debits_posted,
       ledger.saturated(b.credits_pending) AS credits_pending,
       ledger.saturated(b.credits_posted) AS credits_posted,
       a.closed
FROM ledger.accounts a
CROSS JOIN LATERAL (
    SELECT CASE WHEN a.number BETWEEN 1 AND 4503599627370495 THEN a.number END AS number) usable
CROSS JOIN LATERAL (
    WITH RECURSIVE newest AS (
        (SELECT p.stripe, p.debits_pending, p.debits_posted, p.credits_pending, p.credits_posted
         FROM ledger.posted p
         WHERE p.stripe BETWEEN usable.number * 1024 AND usable.number * 1024 + 1023 AND p.run > 0
         ORDER BY p.stripe DESC, p.version - p.run DESC LIMIT 1)
        UNION ALL
        SELECT lower.* FROM newest n CROSS JOIN LATERAL (
            SELECT p.stripe, p.debits_pending, p.debits_posted, p.credits_pending, p.credits_posted
            FROM ledger.posted p
            WHERE p.stripe >= usable.number * 1024 AND p.stripe < n.stripe AND p.run > 0
            ORDER BY p.stripe DESC, p.version - p.run DESC LIMIT 1) lower)
    SELECT sum(n.debits_pending) AS debits_pending, sum(n.debits_posted) AS debits_posted,
           sum(n.credits_pending) AS credits_pending, sum(n.credits_posted) AS credits_posted
    FROM newest n) b;

-- What a reader asks for by name is read with the rights of the owner, who alone may read beneath.
ALTER FUNCTION ledger.history(uuid, integer, timestamptz, bigint)
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
ALTER FUNCTION ledger.postings_of(uuid) SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
ALTER FUNCTION ledger.why_declined(uuid) SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
ALTER FUNCTION ledger.flush_of_entry(integer, integer, bigint, bigint)
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp;
ALTER FUNCTION ledger.is_number_given(bigint) SET search_path = pg_catalog, pg_temp;
-- Whoever may insert accounts calls nothing else.
ALTER FUNCTION ledger.guard_account() SECURITY DEFINER SET search_path = pg_catalog, pg_temp;

-- ---------------------------------------------------------------- frozen backends

-- A frozen worker keeps its locks, and may be of another login role than who waits for it, as while
-- a password is changed. This ends its backend, and no other: it tests all of it itself. What it
-- must not end by the rights of the owner it leaves alone.
CREATE FUNCTION ledger.end_frozen_backend(frozen integer, waiting integer) RETURNS boolean
    LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
SELECT coalesce((
    SELECT pg_terminate_backend(a.pid)
    FROM pg_stat_activity a
    JOIN ledger.heartbeats h ON a.application_name = 'engine ' || h.worker::text
    WHERE a.pid = frozen AND a.pid = ANY (pg_blocking_pids(waiting))
      AND a.datname = current_database() AND pg_has_role(a.usesysid, 'USAGE')
      AND h.expires_at <= clock_timestamp()), false) $$;
COMMENT ON FUNCTION ledger.end_frozen_backend IS
    'Ends the backend of a worker whose lease has ended, where another backend waits for its locks';

CREATE FUNCTION flows.end_frozen_backend(frozen integer, waiting integer) RETURNS boolean
    LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
SELECT coalesce((
    SELECT pg_terminate_backend(a.pid)
    FROM pg_stat_activity a
    JOIN flows.heartbeats h ON a.application_name = 'engine flows ' || h.worker::text
    WHERE a.pid = frozen AND a.pid = ANY (pg_blocking_pids(waiting))
      AND a.datname = current_database() AND pg_has_role(a.usesysid, 'USAGE')
      AND h.expires_at <= clock_timestamp()), false) $$;
COMMENT ON FUNCTION flows.end_frozen_backend IS
    'Ends the backend of a flow worker whose lease has ended, where another backend waits for its locks';

-- ---------------------------------------------------------------- rows that are deleted

-- Who may DELETE from a table may lock all of it.
CREATE FUNCTION flows.end_open(ended uuid[]) RETURNS void
    LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DELETE FROM flows.open WHERE flow = ANY (ended) $$;
COMMENT ON FUNCTION flows.end_open IS 'Flows that have ended are looked at no more';
