-- The ledger: accounts, transfers and their postings, and who may write them.
--
-- How to read it. `accounts`, `transfers`, `declined`, `postings`, `balances`, `holds`,
-- `shards`, `workers`, `flushes` and `dead_letters` are for everybody. `spent`, `posted`,
-- `resolutions`, `positions`, `owners` and `heartbeats` are how they are kept: numbers
-- instead of uuids, one table for all ids ever spent. Rows are only ever added; the
-- exceptions are an account's `closed`, a shard's owner, and heartbeats.
--
-- Amounts are integers in the minor unit of their ledger. A credit is positive.
-- :shard_count is filled in by `engine init`, once and for ever.

CREATE SCHEMA IF NOT EXISTS ledger;
COMMENT ON SCHEMA ledger IS 'Double-entry ledger of the transfer engine';

-- ---------------------------------------------------------------- settings and names

CREATE TABLE ledger.settings (
    one         boolean PRIMARY KEY DEFAULT true CHECK (one),
    shard_count integer NOT NULL CHECK (shard_count BETWEEN 1 AND 1024
                                        AND shard_count & (shard_count - 1) = 0)
);
COMMENT ON TABLE ledger.settings IS 'One row, written when the ledger is made, never changed';
INSERT INTO ledger.settings (shard_count) VALUES (:shard_count);

-- The home of an account: the last four bytes of its id, big-endian, modulo the number of
-- shards (a power of two, so a mask). A literal, because an account never changes shard.
CREATE FUNCTION ledger.shard_of(id uuid) RETURNS integer
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN (('x' || right(id::text, 8))::bit(32)::bigint & (:shard_count - 1))::integer;

CREATE TABLE ledger.outcomes (
    number smallint PRIMARY KEY,
    name   text NOT NULL UNIQUE
);
COMMENT ON TABLE ledger.outcomes IS 'Names of outcomes: TigerBeetle''s, with created = 0';
INSERT INTO ledger.outcomes (number, name) VALUES
    (0, 'created'),
    (1, 'linked_event_failed'),
    (2, 'linked_event_chain_open'),
    (3, 'timestamp_must_be_zero'),
    (4, 'reserved_flag'),
    (5, 'id_must_not_be_zero'),
    (6, 'id_must_not_be_int_max'),
    (36, 'exists_with_different_flags'),
    (40, 'exists_with_different_pending_id'),
    (44, 'exists_with_different_timeout'),
    (37, 'exists_with_different_debit_account_id'),
    (38, 'exists_with_different_credit_account_id'),
    (39, 'exists_with_different_amount'),
    (41, 'exists_with_different_user_data_128'),
    (42, 'exists_with_different_user_data_64'),
    (43, 'exists_with_different_user_data_32'),
    (67, 'exists_with_different_ledger'),
    (45, 'exists_with_different_code'),
    (46, 'exists'),
    (68, 'id_already_failed'),
    (7, 'flags_are_mutually_exclusive'),
    (8, 'debit_account_id_must_not_be_zero'),
    (9, 'debit_account_id_must_not_be_int_max'),
    (10, 'credit_account_id_must_not_be_zero'),
    (11, 'credit_account_id_must_not_be_int_max'),
    (12, 'accounts_must_be_different'),
    (13, 'pending_id_must_be_zero'),
    (14, 'pending_id_must_not_be_zero'),
    (15, 'pending_id_must_not_be_int_max'),
    (16, 'pending_id_must_be_different'),
    (17, 'timeout_reserved_for_pending_transfer'),
    (64, 'closing_transfer_must_be_pending'),
    (19, 'ledger_must_not_be_zero'),
    (20, 'code_must_not_be_zero'),
    (21, 'debit_account_not_found'),
    (22, 'credit_account_not_found'),
    (23, 'accounts_must_have_the_same_ledger'),
    (24, 'transfer_must_have_the_same_ledger_as_accounts'),
    (25, 'pending_transfer_not_found'),
    (26, 'pending_transfer_not_pending'),
    (27, 'pending_transfer_has_different_debit_account_id'),
    (28, 'pending_transfer_has_different_credit_account_id'),
    (29, 'pending_transfer_has_different_ledger'),
    (30, 'pending_transfer_has_different_code'),
    (31, 'exceeds_pending_transfer_amount'),
    (32, 'pending_transfer_has_different_amount'),
    (33, 'pending_transfer_already_posted'),
    (34, 'pending_transfer_already_voided'),
    (35, 'pending_transfer_expired'),
    (65, 'debit_account_already_closed'),
    (66, 'credit_account_already_closed'),
    (47, 'overflows_debits_pending'),
    (48, 'overflows_credits_pending'),
    (49, 'overflows_debits_posted'),
    (50, 'overflows_credits_posted'),
    (51, 'overflows_debits'),
    (52, 'overflows_credits'),
    (53, 'overflows_timeout'),
    (54, 'exceeds_credits'),
    (55, 'exceeds_debits');

-- Not STRICT, so that it becomes a part of the query that asks.
CREATE FUNCTION ledger.transfer_flags(bits integer) RETURNS text[]
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN array_remove(ARRAY[
        CASE WHEN bits &   1 <> 0 THEN 'linked' END,
        CASE WHEN bits &   2 <> 0 THEN 'pending' END,
        CASE WHEN bits &   4 <> 0 THEN 'post_pending_transfer' END,
        CASE WHEN bits &   8 <> 0 THEN 'void_pending_transfer' END,
        CASE WHEN bits &  16 <> 0 THEN 'balancing_debit' END,
        CASE WHEN bits &  32 <> 0 THEN 'balancing_credit' END,
        CASE WHEN bits &  64 <> 0 THEN 'closing_debit' END,
        CASE WHEN bits & 128 <> 0 THEN 'closing_credit' END], NULL);

-- A little-endian unsigned number inside a request as it came over the wire.
CREATE FUNCTION ledger.little_endian(bytes bytea, start integer, length integer) RETURNS numeric
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN (SELECT sum(get_byte(bytes, start + i) * 256::numeric ^ i)
            FROM generate_series(0, length - 1) AS i);

CREATE FUNCTION ledger.uuid_at(bytes bytea, start integer) RETURNS uuid
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN encode(substring(bytes FROM start + 1 FOR 16), 'hex')::uuid;

-- u64 values are kept as the bigint with the same bits.
CREATE FUNCTION ledger.unsigned(bits bigint) RETURNS numeric
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE WHEN bits >= 0 THEN bits ELSE bits + 18446744073709551616::numeric END;

CREATE FUNCTION ledger.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '%.% is append-only: % refused', TG_TABLE_SCHEMA, TG_TABLE_NAME, TG_OP
        USING HINT = 'Correct a mistake with another transfer.', ERRCODE = 'restrict_violation';
END $$;

-- ---------------------------------------------------------------- accounts

CREATE TABLE ledger.accounts (
    id            uuid NOT NULL PRIMARY KEY
                  CHECK (id <> '00000000-0000-0000-0000-000000000000'
                         AND id <> 'ffffffff-ffff-ffff-ffff-ffffffffffff'),
    ledger        bigint NOT NULL CHECK (ledger BETWEEN 1 AND 4294967295),
    code          integer NOT NULL CHECK (code BETWEEN 1 AND 65535),
    flags         text[] NOT NULL DEFAULT '{}'
                  CHECK (flags <@ ARRAY['debits_must_not_exceed_credits',
                                        'credits_must_not_exceed_debits']
                         AND cardinality(flags) <= 1),
    name          text,
    shard         integer NOT NULL GENERATED ALWAYS AS (ledger.shard_of(id)) STORED,
    closed        boolean NOT NULL DEFAULT false,
    user_data_128 uuid,
    user_data_64  numeric(20) NOT NULL DEFAULT 0 CHECK (user_data_64 BETWEEN 0 AND 18446744073709551615),
    user_data_32  bigint NOT NULL DEFAULT 0 CHECK (user_data_32 BETWEEN 0 AND 4294967295),
    created_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    number        bigint NOT NULL GENERATED ALWAYS AS IDENTITY UNIQUE CHECK (number < 9007199254740992)
);
COMMENT ON TABLE ledger.accounts IS
    'Accounts. Create one by INSERT of id, ledger, code, flags and, if wanted, name and user_data; then send transfers';
COMMENT ON COLUMN ledger.accounts.ledger IS 'The currency or asset; transfers stay within one';
COMMENT ON COLUMN ledger.accounts.closed IS 'Set and reset by closing holds alone';
COMMENT ON COLUMN ledger.accounts.number IS 'The account in the tables that are written fast';
CREATE INDEX accounts_name ON ledger.accounts (name) WHERE name IS NOT NULL;

-- `closed` follows from a closing hold; what limits an account never changes.
CREATE FUNCTION ledger.guard_account() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        IF NEW.closed THEN
            RAISE EXCEPTION 'account % cannot be created closed', NEW.id
                USING HINT = 'Send a pending transfer with closing_debit or closing_credit.',
                      ERRCODE = 'restrict_violation';
        END IF;
    ELSIF (NEW.id, NEW.ledger, NEW.code, NEW.flags, NEW.number)
          IS DISTINCT FROM (OLD.id, OLD.ledger, OLD.code, OLD.flags, OLD.number) THEN
        RAISE EXCEPTION 'id, ledger, code and flags of account % never change', OLD.id
            USING HINT = 'Create another account and move the balance.',
                  ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER guard BEFORE INSERT OR UPDATE ON ledger.accounts
    FOR EACH ROW EXECUTE FUNCTION ledger.guard_account();
CREATE TRIGGER keep BEFORE DELETE OR TRUNCATE ON ledger.accounts
    FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change();

-- ---------------------------------------------------------------- workers and flushes

CREATE TABLE ledger.workers (
    worker     uuid PRIMARY KEY,
    host       text NOT NULL,
    process    integer NOT NULL,
    started_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE ledger.workers IS
    'Every worker that ever started; its row is the lock that flushes, claims and loans queue at';

CREATE TABLE ledger.heartbeats (
    worker     uuid PRIMARY KEY REFERENCES ledger.workers,
    expires_at timestamptz NOT NULL
) WITH (fillfactor = 50);
COMMENT ON TABLE ledger.heartbeats IS 'Until when a worker''s shards are not to be taken from it';

CREATE SEQUENCE ledger.flush_numbers;

CREATE TABLE ledger.flushes (
    worker      uuid NOT NULL,
    sequence    bigint NOT NULL,
    number      bigint NOT NULL DEFAULT nextval('ledger.flush_numbers'),
    kind        text NOT NULL CHECK (kind IN ('flush', 'locked', 'lent', 'claim', 'release')),
    time        timestamptz NOT NULL,
    transfers   integer NOT NULL DEFAULT 0,
    declined    integer NOT NULL DEFAULT 0,
    postings    integer NOT NULL DEFAULT 0,
    other       bigint,
    PRIMARY KEY (worker, sequence)
);
COMMENT ON TABLE ledger.flushes IS
    'The chain of each worker, without gaps: nothing is written but with the next row of the writer''s chain and of the chain of everyone whose accounts it touches. The key is the fence';
COMMENT ON COLUMN ledger.flushes.number IS 'Unique over all workers: the upper bits of posted.number and spent.number';
COMMENT ON COLUMN ledger.flushes.time IS 'When the flush was decided: posted_at of all its rows';
COMMENT ON COLUMN ledger.flushes.other IS 'In a lent row, the flush that wrote; in a claim, the claim''s row in the other chain';
CREATE UNIQUE INDEX flushes_number ON ledger.flushes (number);

CREATE TABLE ledger.owners (
    shard  smallint PRIMARY KEY,
    worker uuid NOT NULL REFERENCES ledger.workers
);
COMMENT ON TABLE ledger.owners IS 'Which worker reads, decides and flushes a shard';

CREATE TABLE ledger.positions (
    shard      smallint NOT NULL,
    flush      bigint NOT NULL,
    generation integer NOT NULL,
    ms         bigint NOT NULL,
    seq        bigint NOT NULL,
    time       timestamptz NOT NULL,
    PRIMARY KEY (shard, flush)
);
COMMENT ON TABLE ledger.positions IS
    'How far into its stream a shard got, with each flush that moved it; the newest row counts';
COMMENT ON COLUMN ledger.positions.time IS 'The shard''s time: it never goes back, and all holds due by then are resolved';

-- The worker that owns what nobody owns.
INSERT INTO ledger.workers (worker, host, process)
    VALUES ('00000000-0000-0000-0000-000000000000', 'nobody', 0);
INSERT INTO ledger.owners (shard, worker)
    SELECT shard, '00000000-0000-0000-0000-000000000000'
    FROM generate_series(0, :shard_count - 1) AS shard;

-- ---------------------------------------------------------------- transfers

-- The two tables below take every transfer and are written by COPY alone. They carry the
-- keys that keep the promises, and no CHECK: those cost a third of the speed, and `engine
-- verify` counts what they would say. What indexes are made of stands first: Postgres takes a
-- row apart up to the last column that it needs.

CREATE TABLE ledger.spent (
    id             uuid NOT NULL PRIMARY KEY,
    expires_at     timestamptz,
    shard          smallint NOT NULL,
    flags          smallint NOT NULL,
    outcome        smallint NOT NULL,
    code           integer,
    number         bigint NOT NULL,
    debit_account  bigint,
    credit_account bigint,
    amount         bigint,
    timeout        bigint,
    pending_id     uuid,
    user_data_128  uuid,
    user_data_64   bigint,
    user_data_32   bigint,
    request        bytea
);
COMMENT ON TABLE ledger.spent IS
    'Every id that can never be used again: created transfers (outcome 0) and those whose refusal spent their id. Read it through transfers and declined';
COMMENT ON COLUMN ledger.spent.number IS 'Number of the flush x 2^20 + place in the flush';
COMMENT ON COLUMN ledger.spent.shard IS 'The shard that decided it, where a hold is resolved too';
COMMENT ON COLUMN ledger.spent.request IS 'What was declined, 128 bytes as on the wire';
CREATE INDEX spent_expires_at ON ledger.spent (shard, expires_at) WHERE expires_at IS NOT NULL;

CREATE TABLE ledger.resolutions (
    hold_id     uuid PRIMARY KEY,
    transfer_id uuid,
    status      text NOT NULL CHECK (status IN ('posted', 'voided', 'expired')),
    number      bigint NOT NULL,
    CHECK ((status = 'expired') = (transfer_id IS NULL))
);
COMMENT ON TABLE ledger.resolutions IS 'How holds ended: the key is why none ends twice';

CREATE TABLE ledger.posted (
    stripe          bigint NOT NULL,
    version         bigint NOT NULL,
    run             integer NOT NULL,
    number          bigint NOT NULL,
    transfer_id     uuid NOT NULL,
    amount          bigint NOT NULL DEFAULT 0,
    pending_amount  bigint NOT NULL DEFAULT 0,
    debits_pending  bigint NOT NULL DEFAULT 0,
    debits_posted   bigint NOT NULL DEFAULT 0,
    credits_pending bigint NOT NULL DEFAULT 0,
    credits_posted  bigint NOT NULL DEFAULT 0
);
COMMENT ON TABLE ledger.posted IS
    'One leg of a transfer with the counters after it. Read it through postings';
COMMENT ON COLUMN ledger.posted.number IS 'Number of the flush x 2^20 + place in the flush; a run has neighbouring ones';
COMMENT ON COLUMN ledger.posted.stripe IS 'Number of the account x 1024 + the shard it was written through';
COMMENT ON COLUMN ledger.posted.version IS 'Counts the postings of the stripe: 1, 2, 3, ...';
COMMENT ON COLUMN ledger.posted.run IS
    'The postings of a stripe in one flush are a run; its last one has its length here, the others 0';

-- The optimistic lock: no two runs build on one version of a stripe. Only the last posting of
-- a run is in the index, which finds the newest balance in one probe.
CREATE UNIQUE INDEX posted_run ON ledger.posted (stripe, (version - run)) WHERE run > 0;

CREATE TRIGGER keep BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger.spent
    FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change();
CREATE TRIGGER keep BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger.resolutions
    FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change();
CREATE TRIGGER keep BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger.posted
    FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change();
CREATE TRIGGER keep BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger.flushes
    FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change();

CREATE TABLE ledger.dead_letters (
    shard       smallint NOT NULL,
    generation  integer NOT NULL,
    ms          bigint NOT NULL,
    seq         bigint NOT NULL,
    reason      text NOT NULL,
    fields      bytea[] NOT NULL,
    received_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (shard, generation, ms, seq)
);
COMMENT ON TABLE ledger.dead_letters IS
    'Stream entries that could not be read, whole: none of their transfers was decided';
COMMENT ON COLUMN ledger.dead_letters.fields IS 'The entry as it came: name, value, name, value, ...';
