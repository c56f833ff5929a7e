-- What operators ask at night, and what they do: one transfer's postings, why it was declined, which
-- flush passed an entry; dead letters and what was done about them; what happened to workers.

-- ---------------------------------------------------------------- one transfer

-- Why a transfer was declined for want of funds: what it asked for, and what the account had then.
--
-- What it had is known from the postings of earlier flushes. Of the flush that declined, the order
-- among created and declined transfers is not kept: where it wrote to this account, the figure is the
-- most that it had at any time at which it had too little. So it is where other workers wrote within
-- the minute before, or where the transfer is a link of a chain, whose earlier links may have taken some.
CREATE FUNCTION ledger.why_declined(wanted uuid)
RETURNS TABLE (account_id uuid, asked numeric, available numeric, exact boolean)
    LANGUAGE plpgsql STABLE PARALLEL SAFE
    SET plan_cache_mode = force_generic_plan
    SET enable_seqscan = off SET enable_bitmapscan = off
    SET enable_hashjoin = off SET enable_mergejoin = off AS $$
#variable_conflict use_column
DECLARE
    request record;
    stripe  record;
    had     numeric := 0;
    began   numeric;
    changes numeric[] := '{}';
    runs    bigint := 0;
    exact   boolean;
BEGIN
    SELECT a.id, a.number AS account, a.shard AS home, s.outcome = 54 AS by_debits,
           ledger.little_endian(s.request, 48, 16) AS amount, s.flags, f.number AS flush, f.time, f.worker
    INTO request
    FROM ledger.spent s
    JOIN ledger.flushes f ON f.number = s.number >> 20
    JOIN ledger.accounts a ON a.id = ledger.uuid_at(s.request, CASE s.outcome WHEN 54 THEN 16 ELSE 32 END)
    WHERE s.id = wanted AND s.outcome IN (54, 55);
    IF NOT FOUND THEN
        RETURN;
    END IF;
    exact := request.flags & 1 = 0;
    FOR stripe IN
        SELECT n.stripe, n.version, ledger.versions_before(
                   n.stripe, n.version, request.time, request.worker, request.flush << 20) AS before
        FROM ledger.newest(request.account) n
    LOOP
        -- What it was when the flush began.
        began := 0;
        IF stripe.before > 0 THEN
            SELECT CASE WHEN request.by_debits
                        THEN p.credits_posted::numeric - p.debits_pending - p.debits_posted
                        ELSE p.debits_posted::numeric - p.credits_pending - p.credits_posted END,
                   exact AND (stripe.stripe & 1023 = request.home
                              OR f.time < request.time - interval '1 minute')
            INTO began, exact
            FROM ledger.posted p JOIN ledger.flushes f ON f.number = p.number >> 20
            WHERE p.stripe = stripe.stripe AND p.run > 0 AND p.version - p.run < stripe.before
            ORDER BY p.version - p.run DESC LIMIT 1;
        END IF;
        had := had + began;
        -- What the flush itself made of it: one of these, if no more stripes have a run of it.
        IF stripe.before < stripe.version THEN
            SELECT changes || coalesce(array_agg(CASE WHEN request.by_debits
                        THEN l.credits_posted::numeric - l.debits_pending - l.debits_posted
                        ELSE l.debits_posted::numeric - l.credits_pending - l.credits_posted END - began), '{}'),
                   runs + least(count(*), 1)
            INTO changes, runs
            FROM ledger.legs_of_flush(stripe.stripe, request.flush) l;
        END IF;
    END LOOP;
    RETURN QUERY SELECT request.id, trunc(request.amount),
        -- It was less than what was asked: else it had not been declined.
        coalesce(max(trunc(had + change)) FILTER (WHERE had + change < request.amount AND runs <= 1),
                 trunc(request.amount - 1)),
        exact AND runs = 0 AND had < request.amount
    FROM unnest(changes || 0::numeric) AS change;
END $$;
COMMENT ON FUNCTION ledger.why_declined IS
    'For a transfer declined with exceeds_credits or exceeds_debits: the account, what was asked of it, and what it had: exactly, or at most';

-- Which flush passed an entry: the first whose position is not before it, by halving.
CREATE FUNCTION ledger.flush_of_entry(
    wanted_shard integer, wanted_generation integer, wanted_ms bigint, wanted_seq bigint)
RETURNS bigint
    LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$
DECLARE
    low    bigint := 0;
    high   bigint;
    probe  record;
BEGIN
    SELECT p.flush INTO high FROM ledger.positions p
    WHERE p.shard = wanted_shard::smallint ORDER BY p.flush DESC LIMIT 1;
    high := high + 1;
    WHILE low + 1 < high LOOP
        SELECT p.flush, (p.generation, p.ms, p.seq) >= (wanted_generation, wanted_ms, wanted_seq) AS past
        INTO probe
        FROM ledger.positions p
        WHERE p.shard = wanted_shard::smallint AND p.flush <= (low + high) / 2
        ORDER BY p.flush DESC LIMIT 1;
        IF probe.past THEN
            high := probe.flush;
        ELSE
            low := (low + high) / 2;
        END IF;
    END LOOP;
    -- Either the first that is past it, or, as none is, one beyond the newest.
    RETURN (SELECT p.flush FROM ledger.positions p WHERE p.shard = wanted_shard::smallint AND p.flush = high);
END $$;
COMMENT ON FUNCTION ledger.flush_of_entry IS
    'Number of the flush that decided an entry of a shard''s stream; null where none has yet';

-- ---------------------------------------------------------------- dead letters

CREATE INDEX dead_letters_received_at ON ledger.dead_letters (received_at);

CREATE TABLE ledger.letter_acts (
    act        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    shard      smallint NOT NULL,
    generation integer NOT NULL,
    ms         bigint NOT NULL,
    seq        bigint NOT NULL,
    kind       text NOT NULL CHECK (kind IN ('resent', 'dismissed')),
    acted_by   text NOT NULL,
    reason     text,
    entry      text,
    repaired   boolean NOT NULL DEFAULT false,
    acted_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    CHECK ((kind = 'resent') = (entry IS NOT NULL)),
    CHECK ((kind = 'dismissed') = (reason IS NOT NULL)),
    FOREIGN KEY (shard, generation, ms, seq) REFERENCES ledger.dead_letters
);
COMMENT ON TABLE ledger.letter_acts IS
    'What operators did about dead letters: sent again, as they were or repaired, or dismissed; the last act counts';
COMMENT ON COLUMN ledger.letter_acts.entry IS 'The id it got in the stream when it was sent again';
CREATE INDEX letter_acts_letter ON ledger.letter_acts (shard, generation, ms, seq, act);
CREATE INDEX letter_acts_acted_at ON ledger.letter_acts (acted_at);
CREATE TRIGGER keep BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger.letter_acts
    FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change();

CREATE VIEW ledger.letters AS
SELECT d.shard || ':' || d.generation || ':' || d.ms || '-' || d.seq AS letter,
       d.shard::integer AS shard, d.generation, d.ms, d.seq, d.reason, d.received_at,
       coalesce(a.kind, 'open') AS state, a.acted_by, a.acted_at, a.reason AS act_reason,
       a.entry AS resent_as, d.fields
FROM ledger.dead_letters d
LEFT JOIN LATERAL (SELECT * FROM ledger.letter_acts a
                   WHERE (a.shard, a.generation, a.ms, a.seq) = (d.shard, d.generation, d.ms, d.seq)
                   ORDER BY a.act DESC LIMIT 1) a ON true;
COMMENT ON VIEW ledger.letters IS
    'Dead letters by the name that commands take, and what was done about each: open, resent or dismissed';

-- ---------------------------------------------------------------- what happened

CREATE TABLE ledger.events (
    event_number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    happened_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    event        text NOT NULL CHECK (length(event) BETWEEN 1 AND 100),
    worker       uuid,
    who          text,
    what         text NOT NULL,
    seconds      double precision
);
COMMENT ON TABLE ledger.events IS
    'What happened and is in no other row: sessions that ended and why, outages with their length, drains';
COMMENT ON COLUMN ledger.events.who IS 'The person or program that did it, where it was no worker';
COMMENT ON COLUMN ledger.events.seconds IS 'How long it lasted, where it did';
CREATE INDEX events_happened_at ON ledger.events (happened_at);
CREATE TRIGGER keep BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger.events
    FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change();

-- A drain is a flag of a worker that goes with it: that and when it was set is kept here. Heartbeats
-- do not name the column, so that the trigger costs them nothing.
CREATE FUNCTION ledger.record_drain() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO ledger.events (event, worker, who, what)
    VALUES ('worker_drained', NEW.worker, session_user, 'it takes no shards until it is started anew');
    RETURN NULL;
END $$;
CREATE TRIGGER record_drain AFTER UPDATE OF drained ON ledger.heartbeats
    FOR EACH ROW WHEN (NEW.drained AND NOT OLD.drained) EXECUTE FUNCTION ledger.record_drain();

-- When the ledger was checked, and what came of it.
CREATE TABLE ledger.verifications (
    verification bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    ended_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    seconds      double precision NOT NULL,
    passed       boolean NOT NULL,
    failed       text[] NOT NULL
);
COMMENT ON TABLE ledger.verifications IS 'Runs of `engine verify`: whether all checks passed, and which did not';
CREATE TRIGGER keep BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger.verifications
    FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change();
