-- Flows that recur, and signals of flows that never start.

CREATE TABLE flows.schedules (
    id           uuid PRIMARY KEY,
    shard        smallint NOT NULL,
    name         text NOT NULL,
    input        bytea NOT NULL,
    rule         text NOT NULL,
    timezone     text NOT NULL,
    missed       text NOT NULL CHECK (missed IN ('all', 'last', 'none')),
    added_by     text NOT NULL,
    added_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    nominal      bigint NOT NULL,
    next_at      timestamptz NOT NULL,
    last_nominal bigint,
    last_outcome text
);
COMMENT ON TABLE flows.schedules IS 'Flows that recur; the next occurrence moves once it was started';
COMMENT ON COLUMN flows.schedules.nominal IS
    'The local time of the next occurrence, in microseconds as if it were UTC: its id follows from it';
CREATE INDEX schedules_next_at ON flows.schedules (shard, next_at);

CREATE TABLE flows.early (
    number      bigint PRIMARY KEY,
    flow        uuid NOT NULL,
    shard       smallint NOT NULL,
    received_at timestamptz NOT NULL
);
COMMENT ON TABLE flows.early IS 'Signals of flows that have not started: bounded, and forgotten in time';
CREATE INDEX early_flow ON flows.early (flow);
CREATE INDEX early_received_at ON flows.early (shard, received_at);
INSERT INTO flows.early (number, flow, shard, received_at)
    SELECT i.number, i.flow,
           get_byte(uuid_send(i.flow), 15) + 256 * get_byte(uuid_send(i.flow), 14)
           & (SELECT shard_count - 1 FROM ledger.settings),
           i.received_at
    FROM flows.inbox i
    WHERE i.name NOT LIKE ':%' AND NOT EXISTS (SELECT FROM flows.flows f WHERE f.id = i.flow);

-- ---------------------------------------------------------------- rows that are deleted

-- Who may DELETE from a table may lock all of it, and delete what it likes: each of these deletes one
-- thing, and sees for itself that it may.
CREATE FUNCTION flows.end_early(started uuid[]) RETURNS void
    LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DELETE FROM flows.early e USING flows.flows f WHERE e.flow = ANY (started) AND f.id = e.flow $$;
COMMENT ON FUNCTION flows.end_early IS 'Signals of flows that have started are early no more';

CREATE FUNCTION flows.forget_early(old bigint[]) RETURNS void
    LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
WITH gone AS (
    DELETE FROM flows.early e
    WHERE e.number = ANY (old) AND e.received_at < clock_timestamp() - interval '90 days'
      AND NOT EXISTS (SELECT FROM flows.flows f WHERE f.id = e.flow AND f.outcome = 'created')
    RETURNING e.number)
DELETE FROM flows.inbox i USING gone WHERE i.number = gone.number $$;
COMMENT ON FUNCTION flows.forget_early IS
    'Signals that are 90 days old, and whose flows have never started, are forgotten';

CREATE FUNCTION flows.remove_schedule(removed uuid) RETURNS boolean
    LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
WITH gone AS (DELETE FROM flows.schedules WHERE id = removed RETURNING id)
SELECT EXISTS (SELECT FROM gone) $$;
COMMENT ON FUNCTION flows.remove_schedule IS 'A schedule starts nothing more';
