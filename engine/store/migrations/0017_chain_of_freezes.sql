-- The chain has what waits for a thaw, and freezes and thaws whole: the rows of kind `freeze` carry a
-- digest of the freeze or thaw that they name. It is made here, as links and seals are.

COMMENT ON COLUMN ledger.flushes.digest IS
    'BLAKE3 of what the flush wrote; in a freeze row SHA-256 of the freeze or thaw; null in rows that write nothing themselves';

CREATE FUNCTION ledger.digest_of_freeze(f ledger.freezes) RETURNS bytea
    LANGUAGE sql STABLE
    RETURN (
        SELECT sha256(
            int8send(f.freeze_number) || int8send(coalesce(f.thaws, 0)) || boolsend(f.declines)
            || int8send((extract(epoch FROM f.time) * 1000000)::bigint)
            || string_agg(int4send(octet_length(word.bytes)) || word.bytes, ''::bytea ORDER BY word.place))
        FROM (
            SELECT place, convert_to(text, 'UTF8') AS bytes
            FROM unnest(ARRAY[f.act, f.kind, f.what, f.acted_by, f.reason, f.role])
                 WITH ORDINALITY AS t(text, place)) AS word);

CREATE OR REPLACE FUNCTION ledger.link_flush() RETURNS trigger LANGUAGE plpgsql AS $$
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
    IF NEW.kind = 'freeze' THEN
        NEW.form := 2;
        SELECT ledger.digest_of_freeze(f) INTO NEW.digest FROM ledger.freezes f WHERE f.freeze_number = NEW.other;
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
