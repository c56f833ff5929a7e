-- What the ledger refuses by itself, whoever writes; and which ledger it is.
--
-- Applied while workers of the program before run: nothing here takes away or renames what they
-- use, and no table is read through. Locks are short; `migrate` waits for them in small portions.

-- ---------------------------------------------------------------- which ledger this is

ALTER TABLE ledger.settings ADD COLUMN identity uuid NOT NULL DEFAULT gen_random_uuid();
COMMENT ON COLUMN ledger.settings.identity IS
    'Which ledger this is: written beside the streams, so that two ledgers do not share them';
COMMENT ON TABLE ledger.settings IS
    'One row, written when the ledger is made, never changed; its lock is the queue of those that decline for want of funds';
CREATE TRIGGER keep BEFORE DELETE OR TRUNCATE ON ledger.settings
    FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change();

-- ---------------------------------------------------------------- accounts

-- Old rows may be otherwise: workers leave them out, and `engine verify` names them. An account
-- that breaks one of these is never written again, so that no flush meets them.
ALTER TABLE ledger.accounts
    ADD CONSTRAINT accounts_flags_usable CHECK (
        flags IN ('{}', '{debits_must_not_exceed_credits}', '{credits_must_not_exceed_debits}')) NOT VALID,
    ADD CONSTRAINT accounts_number_usable CHECK (number BETWEEN 1 AND 4503599627370495) NOT VALID;

-- Whether a number is one that the ledger gave. Whoever may insert accounts need not be allowed to
-- read the sequence.
CREATE FUNCTION ledger.is_number_given(number bigint) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
BEGIN
    RETURN number <= (SELECT last_value FROM ledger.accounts_number_seq);
END $$;

CREATE OR REPLACE FUNCTION ledger.guard_account() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        IF NEW.closed THEN
            RAISE EXCEPTION 'account % cannot be created closed', NEW.id
                USING HINT = 'Send a pending transfer with closing_debit or closing_credit.',
                      ERRCODE = 'restrict_violation';
        ELSIF NEW.number < 1 OR NEW.number > 4503599627370495 OR NOT ledger.is_number_given(NEW.number) THEN
            RAISE EXCEPTION 'account % cannot have the number %', NEW.id, NEW.number
                USING HINT = 'The ledger numbers accounts: leave out number and OVERRIDING SYSTEM VALUE.',
                      ERRCODE = 'restrict_violation';
        ELSIF array_ndims(NEW.flags) > 1 OR array_lower(NEW.flags, 1) <> 1 OR cardinality(NEW.flags) > 1
              OR NOT NEW.flags <@ ARRAY['debits_must_not_exceed_credits', 'credits_must_not_exceed_debits'] THEN
            RAISE EXCEPTION 'account % cannot have the flags %', NEW.id, NEW.flags
                USING HINT = 'Give {}, {debits_must_not_exceed_credits} or {credits_must_not_exceed_debits}.',
                      ERRCODE = 'restrict_violation';
        END IF;
    ELSIF (NEW.id, NEW.ledger, NEW.code, NEW.flags, NEW.number)
          IS DISTINCT FROM (OLD.id, OLD.ledger, OLD.code, OLD.flags, OLD.number) THEN
        RAISE EXCEPTION 'id, ledger, code and flags of account % never change', OLD.id
            USING HINT = 'Create another account and move the balance.',
                  ERRCODE = 'restrict_violation';
    END IF;
    -- What an index takes, whatever the letters.
    IF (length(NEW.name) > 1000 OR octet_length(NEW.name) > 2600)
       AND (TG_OP = 'INSERT' OR NEW.name IS DISTINCT FROM OLD.name) THEN
        RAISE EXCEPTION 'the name of account % has % characters in % bytes; 1000 in 2600 are the most',
            NEW.id, length(NEW.name), octet_length(NEW.name)
            USING HINT = 'Keep what is longer in a table of your own, by the id of the account.',
                  ERRCODE = 'restrict_violation';
    ELSIF NEW.created_at NOT BETWEEN '1970-01-01 00:00:00Z' AND '9999-12-31 00:00:00Z'
          AND (TG_OP = 'INSERT' OR NEW.created_at IS DISTINCT FROM OLD.created_at) THEN
        RAISE EXCEPTION 'account % cannot have been created at %', NEW.id, NEW.created_at
            USING HINT = 'Leave created_at out.', ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END $$;

-- ---------------------------------------------------------------- time

-- A worker whose clock is ahead would release holds before their time and date for ever what it
-- writes. Where the times of the ledger are ahead already it goes on from there, so that no time
-- ever goes back: a flush may always follow what was written before, which is no later than the
-- last row of some worker's chain.
CREATE FUNCTION ledger.refuse_time() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    newest timestamptz := NEW.time - interval '1 s';
BEGIN
    IF EXISTS (SELECT FROM ledger.flushes f
               WHERE f.worker = NEW.worker AND f.sequence = NEW.sequence - 1 AND f.time >= newest)
       OR EXISTS (SELECT FROM ledger.workers w
                  CROSS JOIN LATERAL (SELECT f.time FROM ledger.flushes f WHERE f.worker = w.worker
                                      ORDER BY f.sequence DESC LIMIT 1) f
                  WHERE f.time >= newest) THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION 'a flush of % is ahead of the clock of Postgres, %', NEW.time, clock_timestamp()
        USING HINT = 'Set the clocks of the workers'' machines and of Postgres by one source.',
              ERRCODE = 'check_violation', CONSTRAINT = 'flushes_time';
END $$;
CREATE TRIGGER refuse_time BEFORE INSERT ON ledger.flushes
    FOR EACH ROW WHEN (NEW.time > clock_timestamp() + interval '15 s')
    EXECUTE FUNCTION ledger.refuse_time();

-- ---------------------------------------------------------------- counters

-- A counter that wraps comes out far below zero. One of a stripe may be negative, where holds were
-- made in another; a home stripe may be as high as its account, up to 2^63-1. One condition on
-- every row costs 2% of a bare COPY; CHECKs by the dozen cost a third of it.
ALTER TABLE ledger.posted ADD CONSTRAINT posted_counters CHECK (
    debits_pending >= -4611686018427387904 AND debits_posted >= -4611686018427387904
    AND credits_pending >= -4611686018427387904 AND credits_posted >= -4611686018427387904) NOT VALID;

-- Sums never overflow, whatever a row says: what is beyond a bigint is shown as the nearest one,
-- and `engine verify` names the account.
CREATE FUNCTION ledger.saturated(sum numeric) RETURNS bigint
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN least(greatest(coalesce(sum, 0), -9223372036854775808), 9223372036854775807)::bigint;

-- The sum of two counters, the same way; of small ones without a numeric in between.
CREATE FUNCTION ledger.added(a bigint, b bigint) RETURNS bigint
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE
        WHEN a BETWEEN -4611686018427387904 AND 4611686018427387903
             AND b BETWEEN -4611686018427387904 AND 4611686018427387903 THEN a + b
        ELSE ledger.saturated(a::numeric + b) END;

-- ---------------------------------------------------------------- what everybody reads

CREATE OR REPLACE VIEW ledger.balances AS
SELECT a.id AS account_id,
       ledger.saturated(b.debits_pending) AS debits_pending,
       ledger.saturated(b.debits_posted) AS debits_posted,
       ledger.saturated(b.credits_pending) AS credits_pending,
       ledger.saturated(b.credits_posted) AS credits_posted,
       a.closed
FROM ledger.accounts a
CROSS JOIN LATERAL (
    SELECT sum(n.debits_pending) AS debits_pending, sum(n.debits_posted) AS debits_posted,
           sum(n.credits_pending) AS credits_pending, sum(n.credits_posted) AS credits_posted
    FROM ledger.newest(CASE WHEN a.number BETWEEN 1 AND 4503599627370495 THEN a.number END) n) b;

-- Powers of a numeric have decimals, all of them zeros.
CREATE OR REPLACE FUNCTION ledger.little_endian(bytes bytea, start integer, length integer) RETURNS numeric
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN (SELECT round(sum(get_byte(bytes, start + i) * 256::numeric ^ i))
            FROM generate_series(0, length - 1) AS i);
