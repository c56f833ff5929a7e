-- The chain: each row of `flushes` carries a digest of what the flush wrote, and a link over itself, the
-- row before it and the rows of other chains that it names. Whoever alters what is kept alters every
-- link after it, and the heads that were kept elsewhere show it.
--
-- The worker makes the digest of what it sends (`engine.book.content` has the forms); links and seals
-- are made here. Rows written before this migration have none: where the chain begins is in
-- `chain_began`. Workers of the program before cannot write to it: stop them all first.

CREATE TABLE ledger.chain_began (
    one    boolean PRIMARY KEY DEFAULT true CHECK (one),
    number bigint NOT NULL
);
COMMENT ON TABLE ledger.chain_began IS 'Flushes with numbers from here on are in the chain; one row, never changed';
INSERT INTO ledger.chain_began (number) SELECT nextval('ledger.flush_numbers');
CREATE TRIGGER keep BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger.chain_began
    FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change();

-- ---------------------------------------------------------------- accounts

ALTER TABLE ledger.accounts ADD COLUMN seal bytea;
COMMENT ON COLUMN ledger.accounts.seal IS
    'SHA-256 over all that never changes of it; null where it was made before there were seals';

CREATE FUNCTION ledger.seal_of(a ledger.accounts) RETURNS bytea
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN sha256(
        int8send(a.number) || uuid_send(a.id) || int8send(a.ledger) || int4send(a.code)
        || uuid_send(coalesce(a.user_data_128, '00000000-0000-0000-0000-000000000000'))
        || int8send(a.user_data_32) || int8send((extract(epoch FROM a.created_at) * 1000000)::bigint)
        || convert_to(a.user_data_64 || ' ' || array_to_string(a.flags, ','), 'UTF8'));

CREATE FUNCTION ledger.seal_account() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    NEW.seal := ledger.seal_of(NEW);
    RETURN NEW;
END $$;
CREATE TRIGGER seal BEFORE INSERT ON ledger.accounts
    FOR EACH ROW EXECUTE FUNCTION ledger.seal_account();

-- Of accounts of which a flush writes the first posting of a stripe: it rests on what they are.
CREATE FUNCTION ledger.seals_of(numbers bigint[]) RETURNS bytea
    LANGUAGE sql STABLE
    RETURN CASE WHEN cardinality(numbers) > 0 THEN (
        SELECT sha256(string_agg(ledger.seal_of(a), ''::bytea ORDER BY a.number))
        FROM ledger.accounts a WHERE a.number = ANY (numbers)) END;

-- ---------------------------------------------------------------- flushes

ALTER TABLE ledger.flushes
    ADD COLUMN form   smallint,
    ADD COLUMN digest bytea,
    ADD COLUMN seals  bytea,
    ADD COLUMN link   bytea;
COMMENT ON COLUMN ledger.flushes.form IS 'How the digest is made of what was written';
COMMENT ON COLUMN ledger.flushes.digest IS 'BLAKE3 of what the flush wrote; null in rows that write nothing themselves';
COMMENT ON COLUMN ledger.flushes.seals IS
    'SHA-256 of the seals of accounts of which it wrote the first posting of a stripe';
COMMENT ON COLUMN ledger.flushes.link IS 'SHA-256 of the link before it in its chain and of all of this row';

CREATE FUNCTION ledger.link_flush() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    before bytea;
    named  bytea;
    none   bytea := decode(repeat('00', 32), 'hex');
BEGIN
    IF NEW.kind IN ('flush', 'locked') AND NEW.digest IS NULL THEN
        RAISE EXCEPTION 'flush % has no digest', NEW.number
            USING HINT = 'Stop all workers of the program before, and start those of this one.',
                  ERRCODE = 'not_null_violation';
    END IF;
    SELECT f.link INTO before FROM ledger.flushes f
    WHERE f.worker = NEW.worker AND f.sequence = NEW.sequence - 1;
    IF before IS NULL THEN
        SELECT sha256(uuid_send(s.identity) || uuid_send(NEW.worker)) INTO before FROM ledger.settings s;
    END IF;
    IF NEW.other IS NOT NULL THEN
        SELECT f.link INTO named FROM ledger.flushes f WHERE f.number = NEW.other;
    END IF;
    NEW.link := sha256(
        before || uuid_send(NEW.worker) || int8send(NEW.sequence) || int8send(NEW.number)
        || int8send((extract(epoch FROM NEW.time) * 1000000)::bigint)
        || int4send(NEW.transfers) || int4send(NEW.declined) || int4send(NEW.postings)
        || int8send(coalesce(NEW.other, 0)) || int2send(coalesce(NEW.form, 0::smallint))
        || coalesce(NEW.digest, none) || coalesce(NEW.seals, none) || coalesce(named, none)
        || convert_to(NEW.kind, 'UTF8'));
    RETURN NEW;
END $$;
CREATE TRIGGER link BEFORE INSERT ON ledger.flushes
    FOR EACH ROW EXECUTE FUNCTION ledger.link_flush();

-- ---------------------------------------------------------------- dead letters

ALTER TABLE ledger.dead_letters ADD COLUMN flush bigint;
COMMENT ON COLUMN ledger.dead_letters.flush IS 'Number of the flush that wrote it; null before the chain';
