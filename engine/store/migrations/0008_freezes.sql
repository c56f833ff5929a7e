-- Stop buttons: accounts, ledgers, transfer codes and shards that are frozen, and what waits for it.
--
-- How to read it. `frozen` is what is frozen now, `waits` the entries that wait; `freezes` is every
-- freeze and thaw, `waiting` every entry that ever waited and `released` when it was decided. Rows are
-- only ever added.

ALTER TABLE ledger.flushes
    DROP CONSTRAINT flushes_kind_check,
    ADD CONSTRAINT flushes_kind_check CHECK (
        kind IN ('flush', 'locked', 'lent', 'claim', 'release', 'freeze')) NOT VALID;
COMMENT ON COLUMN ledger.flushes.other IS
    'In a lent row, the flush that wrote; in a claim, the claim''s row in the other chain; in a freeze row, the freeze or thaw';

INSERT INTO ledger.outcomes (number, name) VALUES (128, 'frozen');

-- ---------------------------------------------------------------- freezes

CREATE TABLE ledger.freezes (
    freeze_number bigint PRIMARY KEY,
    act      text NOT NULL CHECK (act IN ('freeze', 'thaw')),
    kind     text NOT NULL CHECK (kind IN ('account', 'ledger', 'code', 'shard')),
    what     text NOT NULL CHECK (CASE kind WHEN 'account' THEN what = what::uuid::text
                                            ELSE what = what::bigint::text END),
    declines boolean NOT NULL DEFAULT false,
    thaws    bigint UNIQUE REFERENCES ledger.freezes,
    acted_by text NOT NULL CHECK (length(acted_by) BETWEEN 1 AND 200),
    reason   text NOT NULL CHECK (length(reason) BETWEEN 1 AND 1000),
    role     text NOT NULL DEFAULT session_user,
    time     timestamptz NOT NULL,
    CHECK ((act = 'thaw') = (thaws IS NOT NULL))
);
COMMENT ON TABLE ledger.freezes IS
    'Every freeze and thaw: of what, by whom and why. While a freeze is in force nothing that matches it is created';
COMMENT ON COLUMN ledger.freezes.freeze_number IS
    'From the numbers of flushes: flushes with a higher one know of it, those with a lower one came before';
COMMENT ON COLUMN ledger.freezes.declines IS
    'Of a freeze: requests are declined instead of waiting; of a thaw: what waited for it is declined';
COMMENT ON COLUMN ledger.freezes.thaws IS 'Of a thaw: the freeze that it ends';
COMMENT ON COLUMN ledger.freezes.role IS 'The role of the database that did it';
COMMENT ON COLUMN ledger.freezes.time IS 'Above the time of everything that was decided before it';
CREATE TRIGGER keep BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger.freezes
    FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change();

CREATE VIEW ledger.frozen AS
SELECT f.freeze_number, f.kind, f.what, f.declines, f.acted_by, f.reason, f.role, f.time
FROM ledger.freezes f
WHERE f.act = 'freeze' AND NOT EXISTS (SELECT FROM ledger.freezes t WHERE t.thaws = f.freeze_number);
COMMENT ON VIEW ledger.frozen IS 'What is frozen now';

-- Whoever freezes has locked the row of `nobody`, so that none comes between the look and the row.
CREATE FUNCTION ledger.guard_freeze() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.role := session_user;
    IF NEW.act = 'freeze' AND EXISTS (
            SELECT FROM ledger.frozen f WHERE (f.kind, f.what) = (NEW.kind, NEW.what)) THEN
        RAISE EXCEPTION '% % is frozen already', NEW.kind, NEW.what
            USING HINT = 'See ledger.frozen; thaw it first.', ERRCODE = 'restrict_violation';
    ELSIF NEW.act = 'thaw' AND NOT EXISTS (
            SELECT FROM ledger.frozen f
            WHERE f.freeze_number = NEW.thaws AND (f.kind, f.what) = (NEW.kind, NEW.what)) THEN
        RAISE EXCEPTION '% % is not frozen', NEW.kind, NEW.what
            USING HINT = 'See ledger.frozen.', ERRCODE = 'restrict_violation';
    ELSIF EXISTS (SELECT FROM ledger.freezes f WHERE f.freeze_number >= NEW.freeze_number OR f.time >= NEW.time) THEN
        RAISE EXCEPTION 'a freeze or thaw comes after those before, in number and in time'
            USING HINT = 'Use `engine freeze` and `engine thaw`.', ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER guard BEFORE INSERT ON ledger.freezes
    FOR EACH ROW EXECUTE FUNCTION ledger.guard_freeze();

-- A freeze that does not stand in the chain of an owner would not stop what that one has under way.
CREATE FUNCTION ledger.check_freeze() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (
            SELECT FROM (SELECT o.worker FROM ledger.owners o
                         UNION SELECT '00000000-0000-0000-0000-000000000000') owner
            WHERE NOT EXISTS (SELECT FROM ledger.flushes f
                              WHERE f.worker = owner.worker AND f.kind = 'freeze'
                                AND f.other = NEW.freeze_number AND f.time = NEW.time)) THEN
        RAISE EXCEPTION '% % has no row in the chain of an owner', NEW.act, NEW.freeze_number
            USING HINT = 'Use `engine freeze` and `engine thaw`.', ERRCODE = 'restrict_violation';
    END IF;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER whole AFTER INSERT ON ledger.freezes
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION ledger.check_freeze();

-- Workers listen: what is frozen or thawed is noticed at once.
CREATE TRIGGER tell AFTER INSERT ON ledger.freezes
    FOR EACH STATEMENT EXECUTE FUNCTION ledger.tell_workers();

-- ---------------------------------------------------------------- what waits

CREATE TABLE ledger.waiting (
    shard               smallint NOT NULL,
    generation          integer NOT NULL,
    ms                  bigint NOT NULL,
    seq                 bigint NOT NULL,
    freeze_number       bigint NOT NULL REFERENCES ledger.freezes,
    flush               bigint NOT NULL,
    transfers           integer NOT NULL,
    size                integer NOT NULL,
    ids                 uuid[] NOT NULL,
    digest              bytea NOT NULL,
    original_generation integer,
    original_ms         bigint,
    original_seq        bigint,
    fields              bytea[] NOT NULL,
    received_at         timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (shard, generation, ms, seq),
    CHECK (num_nulls(original_generation, original_ms, original_seq) IN (0, 3)),
    FOREIGN KEY (shard, original_generation, original_ms, original_seq) REFERENCES ledger.waiting
);
COMMENT ON TABLE ledger.waiting IS
    'Stream entries that a freeze made wait, whole; those in released are decided. Read it through waits';
COMMENT ON COLUMN ledger.waiting.freeze_number IS 'The freeze that it met first';
COMMENT ON COLUMN ledger.waiting.flush IS 'Number of the flush that moved the position past it';
COMMENT ON COLUMN ledger.waiting.digest IS 'SHA-256 of its transfers as they came';
COMMENT ON COLUMN ledger.waiting.original_ms IS
    'Of a copy of an entry that waits: that entry, whose transfers are its own; it is decided right after it';
COMMENT ON COLUMN ledger.waiting.fields IS
    'The entry as it came: name, value, name, value, ...; of a copy, without its transfers';
CREATE INDEX waiting_ids ON ledger.waiting USING gin (ids);
CREATE TRIGGER keep BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger.waiting
    FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change();

CREATE TABLE ledger.released (
    shard      smallint NOT NULL,
    generation integer NOT NULL,
    ms         bigint NOT NULL,
    seq        bigint NOT NULL,
    flush      bigint NOT NULL,
    PRIMARY KEY (shard, generation, ms, seq),
    FOREIGN KEY (shard, generation, ms, seq) REFERENCES ledger.waiting
);
COMMENT ON TABLE ledger.released IS 'Entries that waited, and the number of the flush that decided each';
CREATE TRIGGER keep BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger.released
    FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change();

CREATE VIEW ledger.waits AS
SELECT w.shard::integer AS shard, w.generation, w.ms, w.seq, w.ms || '-' || w.seq AS entry,
       w.freeze_number, f.kind, f.what, f.acted_by, f.reason, f.time AS frozen_at,
       w.ids, w.transfers, w.received_at
FROM ledger.waiting w
JOIN ledger.freezes f USING (freeze_number)
WHERE NOT EXISTS (SELECT FROM ledger.released r
                  WHERE (r.shard, r.generation, r.ms, r.seq) = (w.shard, w.generation, w.ms, w.seq));
COMMENT ON VIEW ledger.waits IS 'Stream entries that wait, and the freeze that each met first';
