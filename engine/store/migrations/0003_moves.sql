-- Who owned which shard when, who asked for it to be moved, and what came of that.

ALTER TABLE ledger.workers ADD COLUMN shards smallint[];
COMMENT ON COLUMN ledger.workers.shards IS
    'The shards it was told to work on: those and only those; null where it takes its fair share';

ALTER TABLE ledger.heartbeats ADD COLUMN drained boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN ledger.heartbeats.drained IS
    'An operator moved its shards away: it takes none by itself until it is started anew';

CREATE TABLE ledger.ownership (
    shard      smallint NOT NULL,
    flush      bigint NOT NULL,
    former     uuid NOT NULL,
    worker     uuid NOT NULL,
    changed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (shard, flush)
);
COMMENT ON TABLE ledger.ownership IS
    'Every change of owner of every shard, in the order of the numbers of flushes; nobody is the worker of zeros';
COMMENT ON COLUMN ledger.ownership.flush IS
    'Number of the claim or release in ledger.flushes; what has a higher one and touches the shard is the new owner''s';
CREATE TRIGGER keep BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger.ownership
    FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change();

-- The record begins here, with who owns what now.
WITH began AS MATERIALIZED (SELECT nextval('ledger.flush_numbers') AS number)
INSERT INTO ledger.ownership (shard, flush, former, worker)
SELECT o.shard, began.number, o.worker, o.worker FROM ledger.owners o CROSS JOIN began;

CREATE TABLE ledger.loads (
    shard                smallint PRIMARY KEY,
    worker               uuid NOT NULL,
    transfers_per_second double precision NOT NULL,
    measured_at          timestamptz NOT NULL DEFAULT clock_timestamp()
) WITH (fillfactor = 50);
COMMENT ON TABLE ledger.loads IS 'What each shard''s owner decides, measured by it between heartbeats';

CREATE TABLE ledger.plans (
    plan       uuid PRIMARY KEY,
    document   jsonb NOT NULL,
    applied_by text NOT NULL,
    state      text NOT NULL DEFAULT 'applying'
               CHECK (state IN ('applying', 'done', 'failed', 'aborted')),
    began_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    ended_at   timestamptz,
    why        text
);
COMMENT ON TABLE ledger.plans IS
    'Plans that were applied, as they were written; one whose command died is applying still';
CREATE TRIGGER keep BEFORE DELETE OR TRUNCATE ON ledger.plans
    FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change();

CREATE TABLE ledger.moves (
    move        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    plan        uuid,
    shard       smallint NOT NULL,
    source      uuid NOT NULL,
    target      uuid NOT NULL CHECK (target <> source),
    asked_by    text NOT NULL,
    state       text NOT NULL DEFAULT 'asked'
                CHECK (state IN ('asked', 'released', 'claimed', 'done', 'failed', 'aborted')),
    asked_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    paused_at   timestamptz,
    released_at timestamptz,
    claimed_at  timestamptz,
    ready_at    timestamptz,
    ended_at    timestamptz,
    pause       interval GENERATED ALWAYS AS (ready_at - paused_at) STORED,
    why         text,
    CHECK ((ended_at IS NULL) = (state IN ('asked', 'released', 'claimed'))),
    CHECK ((state IN ('failed', 'aborted')) = (why IS NOT NULL))
);
COMMENT ON TABLE ledger.moves IS
    'Shards that were to go from one worker to another: who asked, when, and how long the shard stood still';
COMMENT ON COLUMN ledger.moves.plan IS 'The plan it is a step of; null where a worker asked for its share';
COMMENT ON COLUMN ledger.moves.paused_at IS 'When the source decided the last entry of it';
COMMENT ON COLUMN ledger.moves.ready_at IS 'When the target had loaded what it needs and read on';
COMMENT ON COLUMN ledger.moves.why IS 'Why it came to nothing';
CREATE UNIQUE INDEX moves_open ON ledger.moves (shard) WHERE ended_at IS NULL;
CREATE INDEX moves_plan ON ledger.moves (plan) WHERE plan IS NOT NULL;

CREATE FUNCTION ledger.guard_move() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.ended_at IS NOT NULL
       OR (NEW.move, NEW.plan, NEW.shard, NEW.source, NEW.target, NEW.asked_by, NEW.asked_at)
          IS DISTINCT FROM
          (OLD.move, OLD.plan, OLD.shard, OLD.source, OLD.target, OLD.asked_by, OLD.asked_at) THEN
        RAISE EXCEPTION 'move % of shard % is a record and is not rewritten', OLD.move, OLD.shard
            USING HINT = 'Ask for another move.', ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER guard BEFORE UPDATE ON ledger.moves
    FOR EACH ROW EXECUTE FUNCTION ledger.guard_move();
CREATE TRIGGER keep BEFORE DELETE OR TRUNCATE ON ledger.moves
    FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change();

-- Workers listen: a shard that is free or asked for is noticed at once.
CREATE FUNCTION ledger.tell_workers() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('ledger_shards', '');
    RETURN NULL;
END $$;
CREATE TRIGGER tell AFTER UPDATE ON ledger.owners
    FOR EACH STATEMENT EXECUTE FUNCTION ledger.tell_workers();
CREATE TRIGGER tell AFTER INSERT OR UPDATE ON ledger.moves
    FOR EACH STATEMENT EXECUTE FUNCTION ledger.tell_workers();
