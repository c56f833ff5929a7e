-- Flows: definitions, journals, and who may write them. A family of its own: its workers have
-- owners, chains and dead letters apart from those of the ledger, and no transaction locks both.
--
-- How to read it. `current` is every flow as it is now; `steps` is the journal, of which rows are only
-- ever added; `inbox` is what came from outside; `reviews` what people are asked. `open` is an index
-- of flows that have not ended.

CREATE SCHEMA IF NOT EXISTS flows;
COMMENT ON SCHEMA flows IS 'Money movement in several steps';

CREATE TABLE flows.definitions (
    definition smallint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name       text NOT NULL,
    version    integer NOT NULL CHECK (version > 0),
    hash       bytea NOT NULL,
    source     jsonb NOT NULL,
    accounts   jsonb NOT NULL,
    defined_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    UNIQUE (name, version)
);
COMMENT ON TABLE flows.definitions IS 'Transition tables; what a name and version say never changes';
COMMENT ON COLUMN flows.definitions.accounts IS 'The accounts that it names itself, and their ids';
CREATE TRIGGER keep BEFORE UPDATE OR DELETE OR TRUNCATE ON flows.definitions
    FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change();

-- ---------------------------------------------------------------- workers and flushes

CREATE TABLE flows.workers (
    worker     uuid PRIMARY KEY,
    host       text NOT NULL,
    process    integer NOT NULL,
    started_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE flows.workers IS 'Every flow worker that ever started; its row is the lock of its chain';

CREATE TABLE flows.heartbeats (
    worker     uuid PRIMARY KEY REFERENCES flows.workers,
    expires_at timestamptz NOT NULL
) WITH (fillfactor = 50);

CREATE SEQUENCE flows.flush_numbers;

CREATE TABLE flows.flushes (
    worker   uuid NOT NULL,
    sequence bigint NOT NULL,
    number   bigint NOT NULL DEFAULT nextval('flows.flush_numbers'),
    kind     text NOT NULL CHECK (kind IN ('flush', 'claim', 'release')),
    time     timestamptz NOT NULL DEFAULT clock_timestamp(),
    steps    integer NOT NULL DEFAULT 0,
    PRIMARY KEY (worker, sequence)
);
COMMENT ON TABLE flows.flushes IS 'The chain of each flow worker, without gaps: the key is the fence';
CREATE UNIQUE INDEX flushes_number ON flows.flushes (number);
CREATE TRIGGER keep BEFORE UPDATE OR DELETE OR TRUNCATE ON flows.flushes
    FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change();

CREATE TABLE flows.owners (
    shard  smallint PRIMARY KEY,
    worker uuid NOT NULL REFERENCES flows.workers
);
INSERT INTO flows.workers (worker, host, process)
    VALUES ('00000000-0000-0000-0000-000000000000', 'nobody', 0);
INSERT INTO flows.owners (shard, worker)
    SELECT shard, '00000000-0000-0000-0000-000000000000'
    FROM generate_series(0, (SELECT shard_count FROM ledger.settings) - 1) AS shard;

CREATE TABLE flows.ownership (
    shard      smallint NOT NULL,
    flush      bigint NOT NULL,
    former     uuid NOT NULL,
    worker     uuid NOT NULL,
    changed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (shard, flush)
);
COMMENT ON TABLE flows.ownership IS 'Every change of owner of every shard of flows';

CREATE TABLE flows.dead_letters (
    stream      text NOT NULL,
    entry       text NOT NULL,
    reason      text NOT NULL,
    fields      bytea[] NOT NULL,
    received_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (stream, entry)
);
COMMENT ON TABLE flows.dead_letters IS 'Entries that could not be read, whole';

-- ---------------------------------------------------------------- flows

CREATE TABLE flows.flows (
    id         uuid PRIMARY KEY,
    definition smallint REFERENCES flows.definitions,
    outcome    text NOT NULL DEFAULT 'created',
    name       text NOT NULL,
    shard      smallint NOT NULL,
    depth      smallint NOT NULL DEFAULT 0,
    input      bytea NOT NULL,
    accounts   jsonb NOT NULL,
    started_by text NOT NULL DEFAULT '',
    started_at timestamptz NOT NULL,
    number     bigint NOT NULL
);
COMMENT ON TABLE flows.flows IS
    'Every id that can never be used again: flows, and starts that were refused for the state of things';
COMMENT ON COLUMN flows.flows.accounts IS 'Names of accounts as written, and the ids that they had';
COMMENT ON COLUMN flows.flows.number IS 'Of the flush';
CREATE TRIGGER keep BEFORE UPDATE OR DELETE OR TRUNCATE ON flows.flows
    FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change();

CREATE TABLE flows.steps (
    flow        uuid NOT NULL,
    seq         smallint NOT NULL,
    step        smallint NOT NULL,
    state       text NOT NULL,
    event       text NOT NULL,
    attempt     integer NOT NULL,
    due_at      timestamptz,
    transfer_id uuid,
    reference   text NOT NULL,
    signal      bigint,
    request     bytea,
    detail      jsonb NOT NULL,
    at          timestamptz NOT NULL,
    number      bigint NOT NULL,
    PRIMARY KEY (flow, seq)
);
COMMENT ON TABLE flows.steps IS
    'The journal: dense by flow; the newest row is the state, and the key the optimistic lock';
COMMENT ON COLUMN flows.steps.request IS 'What was asked, frozen: transfers of 128 bytes, or JSON';
CREATE UNIQUE INDEX steps_signal ON flows.steps (signal) WHERE signal IS NOT NULL;
CREATE TRIGGER keep BEFORE UPDATE OR DELETE OR TRUNCATE ON flows.steps
    FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change();

CREATE TABLE flows.open (
    flow    uuid PRIMARY KEY,
    shard   smallint NOT NULL,
    wake_at timestamptz
) WITH (fillfactor = 80);
COMMENT ON TABLE flows.open IS 'Flows that have not ended, and when each is to be looked at';
CREATE INDEX open_wake_at ON flows.open (shard, wake_at) WHERE wake_at IS NOT NULL;

CREATE TABLE flows.reviews (
    flow       uuid NOT NULL,
    seq        smallint NOT NULL,
    question   text NOT NULL,
    answers    text[] NOT NULL,
    asked_at   timestamptz NOT NULL,
    due_at     timestamptz,
    ended_at   timestamptz,
    decided_by text,
    decision   text,
    reason     text,
    PRIMARY KEY (flow, seq)
);
CREATE INDEX reviews_open ON flows.reviews (asked_at) WHERE ended_at IS NULL;

CREATE TABLE flows.inbox (
    flow        uuid NOT NULL,
    name        text NOT NULL,
    message_id  text NOT NULL,
    event       text NOT NULL,
    body        jsonb,
    answer      text NOT NULL,
    number      bigint NOT NULL UNIQUE,
    received_at timestamptz NOT NULL,
    PRIMARY KEY (flow, name, message_id)
);
COMMENT ON TABLE flows.inbox IS
    'What came from outside, before it was acknowledged: signals, and what people ask (names with a colon)';
CREATE TRIGGER keep BEFORE UPDATE OR TRUNCATE ON flows.inbox
    FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change();

CREATE TABLE flows.misfits (
    flow        uuid NOT NULL,
    name        text NOT NULL,
    message_id  text NOT NULL,
    event       text NOT NULL,
    body        jsonb,
    answer      text NOT NULL,
    received_at timestamptz NOT NULL,
    PRIMARY KEY (flow, name, message_id, event)
);
COMMENT ON TABLE flows.misfits IS 'Signals that no definition knows, or that came after the end';

-- ---------------------------------------------------------------- what everybody reads

CREATE VIEW flows.current AS
SELECT f.id, d.name AS definition, d.version,
       CASE s.state WHEN 'ended' THEN 'ended' WHEN 'stopped' THEN 'stopped' ELSE 'running' END AS state,
       CASE s.state WHEN 'ended' THEN s.event END AS "end",
       t.step ->> 'name' AS step,
       CASE s.state
           WHEN 'asked' THEN CASE t.step ->> 'kind' WHEN 'call' THEN 'call ' || (t.step ->> 'function')
                                                    WHEN 'start' THEN 'timer' ELSE 'ledger' END
           WHEN 'ready' THEN 'code ' || (t.step ->> 'function')
           WHEN 'review' THEN 'review'
           WHEN 'waiting' THEN CASE WHEN t.step ->> 'kind' = 'wait' AND s.event = ''
                                    THEN 'signal ' || (t.step ->> 'signal') ELSE 'timer' END
       END AS waiting_for,
       f.started_at, CASE s.state WHEN 'ended' THEN s.at END AS ended_at,
       s.due_at, s.seq::integer AS seq, CASE s.state WHEN 'stopped' THEN s.event END AS reason,
       f.started_by
FROM flows.flows f
JOIN flows.definitions d USING (definition)
CROSS JOIN LATERAL (SELECT * FROM flows.steps s WHERE s.flow = f.id ORDER BY s.seq DESC LIMIT 1) s
CROSS JOIN LATERAL (SELECT d.source -> 'steps' -> s.step::integer AS step) t
WHERE f.outcome = 'created';
COMMENT ON VIEW flows.current IS 'Every flow as it is now';

CREATE VIEW flows.unknown AS
SELECT c.id AS flow, c.definition, c.step, s.at AS since, c.waiting_for, c.due_at AS next_look
FROM flows.current c
JOIN flows.steps s ON s.flow = c.id AND s.state = 'unknown'
WHERE c.state <> 'ended';
COMMENT ON VIEW flows.unknown IS 'What was asked of the outside and not answered';

CREATE VIEW flows.unmatched AS
SELECT i.flow, i.name, i.message_id, i.event, i.body, i.received_at, 'not consumed' AS reason
FROM flows.inbox i
WHERE i.name NOT LIKE ':%' AND NOT EXISTS (SELECT FROM flows.steps s WHERE s.signal = i.number)
  AND NOT EXISTS (SELECT FROM flows.open o WHERE o.flow = i.flow)
UNION ALL
SELECT m.flow, m.name, m.message_id, m.event, m.body, m.received_at, m.answer FROM flows.misfits m;
COMMENT ON VIEW flows.unmatched IS 'Signals that led nowhere: of ended or unknown flows, or of unknown events';
