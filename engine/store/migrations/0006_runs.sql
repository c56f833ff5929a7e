-- Runs as rows: all postings of a stripe in one flush lie in one row, up to 48 of them.
--
-- The row is the run's last posting, with the counters after it, as it was before; the earlier
-- ones are in arrays. A run of one is what it was. Rows written before this migration, a row a
-- posting, stay as they are for ever, and whatever reads takes both.

ALTER TABLE ledger.posted
    ADD COLUMN earlier_transfers uuid[],
    ADD COLUMN earlier_amounts   bigint[],
    ADD COLUMN earlier_pending   bigint[],
    ADD COLUMN debit             boolean[],
    -- Rows stay below 2,000 bytes, so nothing is moved out of them or compressed.
    ALTER COLUMN earlier_transfers SET STORAGE PLAIN,
    ALTER COLUMN earlier_amounts SET STORAGE PLAIN,
    ALTER COLUMN earlier_pending SET STORAGE PLAIN,
    ALTER COLUMN debit SET STORAGE PLAIN;
COMMENT ON TABLE ledger.posted IS
    'A run: the legs of one stripe in one flush, at most 48, the last one in full. Read it through postings';
COMMENT ON COLUMN ledger.posted.run IS
    'How many postings the row has. In rows written before migration 6 a run''s last posting has its length, and the others, rows of their own, 0';
COMMENT ON COLUMN ledger.posted.number IS
    'Of the last posting: number of the flush x 2^20 + place in the flush. The earlier ones have those right before it';
COMMENT ON COLUMN ledger.posted.version IS
    'Of the last posting: postings of a stripe are counted 1, 2, 3, ...';
COMMENT ON COLUMN ledger.posted.earlier_transfers IS
    'The transfers of the run''s earlier postings, oldest first; null in a run of one';
COMMENT ON COLUMN ledger.posted.earlier_amounts IS 'Their amounts';
COMMENT ON COLUMN ledger.posted.earlier_pending IS
    'Their pending amounts; null where no posting of the run has one';
COMMENT ON COLUMN ledger.posted.debit IS
    'Where a posting of the run has a pending amount: which are debits, the last one too. Elsewhere the sign says it';

-- The postings of a row, each with the counters after it: those before a posting are those after
-- it less what it changes, and only the last one's are kept. Whether it is a debit is known where
-- it matters: not of a run of one, nor where nothing is moved.
-- Not STRICT, so that it becomes a part of the query that asks.
CREATE FUNCTION ledger.legs_of(p ledger.posted)
    RETURNS TABLE (version bigint, number bigint, transfer_id uuid, amount bigint, pending_amount bigint,
                   is_debit boolean, debits_pending bigint, debits_posted bigint,
                   credits_pending bigint, credits_posted bigint)
    LANGUAGE sql STABLE PARALLEL SAFE AS $$
SELECT p.version, p.number, p.transfer_id, p.amount, p.pending_amount, NULL::boolean,
       p.debits_pending, p.debits_posted, p.credits_pending, p.credits_posted
WHERE p.earlier_transfers IS NULL
UNION ALL
SELECT p.version - l.back, p.number - l.back, l.transfer_id, l.amount, l.pending_amount, l.is_debit,
       ledger.saturated(p.debits_pending + coalesce(sum(l.pending_amount) FILTER (WHERE l.is_debit) OVER later, 0)),
       ledger.saturated(p.debits_posted + coalesce(sum(l.amount) FILTER (WHERE l.is_debit) OVER later, 0)),
       ledger.saturated(p.credits_pending - coalesce(sum(l.pending_amount) FILTER (WHERE NOT l.is_debit) OVER later, 0)),
       ledger.saturated(p.credits_posted - coalesce(sum(l.amount) FILTER (WHERE NOT l.is_debit) OVER later, 0))
FROM (SELECT cardinality(p.earlier_transfers) + 1 - u.place AS back, u.transfer_id, u.amount,
             CASE WHEN u.place > cardinality(p.earlier_transfers) THEN p.pending_amount
                  ELSE coalesce(u.pending_amount, 0) END AS pending_amount,
             coalesce(u.is_debit, CASE WHEN u.amount <> 0 THEN u.amount < 0 END) AS is_debit
      FROM unnest(p.earlier_transfers || p.transfer_id, p.earlier_amounts || p.amount,
                  p.earlier_pending, p.debit)
           WITH ORDINALITY AS u(transfer_id, amount, pending_amount, is_debit, place)) l
WHERE p.earlier_transfers IS NOT NULL
WINDOW later AS (ORDER BY l.back ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
$$;

-- Rows of old that are no run's last: what finds them by account. Empty in a ledger of today.
CREATE INDEX posted_beside ON ledger.posted (stripe, version) WHERE run = 0;

CREATE VIEW ledger.legs AS
SELECT p.stripe, p.number AS row_number, l.*
FROM ledger.posted p
CROSS JOIN LATERAL ledger.legs_of(p) l;
COMMENT ON VIEW ledger.legs IS 'A row a posting, by numbers of accounts, however it is kept. Read it through postings';

-- Conditions on an account reach the index of runs; those on a flush, the rows before they are
-- taken apart. One on a transfer reaches nothing: ask postings_of().
CREATE OR REPLACE VIEW ledger.postings AS
SELECT a.id AS account_id, l.transfer_id, l.amount, l.pending_amount,
       (p.stripe & 1023)::integer AS shard, l.version,
       l.debits_pending, l.debits_posted, l.credits_pending, l.credits_posted,
       f.time AS posted_at, f.worker, l.number
FROM ledger.accounts a
JOIN ledger.posted p ON p.stripe >> 10 = a.number
                    AND p.stripe >= a.number * 1024 AND p.stripe < (a.number + 1) * 1024 AND p.run > 0
JOIN ledger.flushes f ON f.number = p.number >> 20
CROSS JOIN LATERAL ledger.legs_of(p) l
UNION ALL
SELECT a.id, p.transfer_id, p.amount, p.pending_amount, (p.stripe & 1023)::integer, p.version,
       p.debits_pending, p.debits_posted, p.credits_pending, p.credits_posted, f.time, f.worker, p.number
FROM ledger.accounts a
JOIN ledger.posted p ON p.stripe >> 10 = a.number
                    AND p.stripe >= a.number * 1024 AND p.stripe < (a.number + 1) * 1024 AND p.run = 0
JOIN ledger.flushes f ON f.number = p.number >> 20;

-- The postings of an account, newest first, from any point in time or any posting backwards.
--
-- Versions are dense, so it is known which of them are wanted, and which runs they are in. A run is
-- a row, or, where it was written before migration 6, as many rows, of which only the last is in
-- the index; the others are nearly always right before it: those that are not are looked for around
-- it. Plans are kept, and are probes of indexes alone.
CREATE OR REPLACE FUNCTION ledger.history(
    account_id    uuid,
    row_limit     integer DEFAULT 100,
    before        timestamptz DEFAULT 'infinity',
    before_number bigint DEFAULT NULL)
RETURNS TABLE (transfer_id uuid, other_account_id uuid, amount bigint, pending_amount bigint,
               code integer, flags text[], shard integer, version bigint,
               debits_pending bigint, debits_posted bigint,
               credits_pending bigint, credits_posted bigint, posted_at timestamptz, number bigint)
    LANGUAGE plpgsql STABLE PARALLEL SAFE
    SET plan_cache_mode = force_generic_plan
    SET enable_seqscan = off SET enable_bitmapscan = off
    SET enable_hashjoin = off SET enable_mergejoin = off AS $$
#variable_conflict use_column
DECLARE
    account      bigint;
    point_time   timestamptz := coalesce(before, 'infinity');
    point_worker uuid := '00000000-0000-0000-0000-000000000000';
    point_number bigint := 0;
    flush        record;
BEGIN
    SELECT a.number INTO account FROM ledger.accounts a WHERE a.id = history.account_id;
    IF before_number IS NOT NULL THEN
        SELECT f.time, f.worker INTO flush FROM ledger.flushes f WHERE f.number = before_number >> 20;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'there is no posting %', before_number
                USING ERRCODE = 'invalid_parameter_value';
        ELSIF flush.time < point_time THEN
            point_time := flush.time;
            point_worker := flush.worker;
            point_number := before_number;
        END IF;
    END IF;
    RETURN QUERY
    WITH stripes AS MATERIALIZED (
        SELECT n.stripe, ledger.versions_before(
            n.stripe, n.version, point_time, point_worker, point_number) AS newest
        FROM ledger.newest(account) n),
    -- Of each stripe the runs with its wanted versions, (oldest, newest].
    runs AS (
        SELECT r.kept, r.place, r.place::text::point AS at,
               (r.kept).stripe, (r.kept).run, (r.kept).version, (r.kept).number, f.time, f.worker,
               (r.kept).run > 1 AND (r.kept).earlier_transfers IS NULL AS is_scattered,
               greatest((r.kept).version - (r.kept).run, s.newest - row_limit) AS oldest,
               least((r.kept).version, s.newest) AS newest
        FROM stripes s
        CROSS JOIN LATERAL (
            SELECT p.ctid AS place, p AS kept FROM ledger.posted p
            WHERE p.stripe = s.stripe AND p.run > 0 AND p.version - p.run < s.newest
              AND p.version - p.run >= coalesce((
                  SELECT p.version - p.run FROM ledger.posted p
                  WHERE p.stripe = s.stripe AND p.run > 0 AND p.version - p.run <= s.newest - row_limit
                  ORDER BY p.version - p.run DESC LIMIT 1), 0)
            OFFSET 0) r
        JOIN ledger.flushes f ON f.number = (r.kept).number >> 20),
    -- Of all stripes together.
    wanted AS (
        SELECT r.*, r.number - r.version + r.newest AS last_number, r.newest - r.oldest AS count,
               sum(r.newest - r.oldest) OVER (
                   ORDER BY r.time DESC, r.worker DESC, r.number DESC
                   ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS newer
        FROM runs r),
    postings AS (
        SELECT w.stripe, p.*, w.time, w.worker
        FROM wanted w
        CROSS JOIN LATERAL (
            SELECT l.*
            FROM ledger.legs_of(w.kept) l
            WHERE NOT w.is_scattered AND l.version > w.oldest AND l.version <= w.newest
            UNION ALL
            SELECT l.*
            FROM ledger.legs_of(w.kept) l
            WHERE w.is_scattered AND w.oldest + 1 = w.version
            UNION ALL
            SELECT l.*
            FROM (SELECT ARRAY(
                SELECT q FROM ledger.posted q
                WHERE q.ctid <= w.place AND q.ctid >= CASE
                      WHEN w.at[1] >= w.version - w.oldest
                      THEN format('(%s,%s)', w.at[0], w.at[1] - (w.version - w.oldest) + 1)
                      ELSE format('(%s,0)', greatest(w.at[0]::bigint - 1 - (w.version - w.oldest) / 60, 0))
                      END::tid
                  AND q.stripe = w.stripe
                  AND q.number > w.last_number - w.count AND q.number <= w.last_number) AS rows
                OFFSET 0) near
            CROSS JOIN LATERAL unnest(CASE
                WHEN cardinality(near.rows) = w.count THEN near.rows
                ELSE ledger.postings_around(w.at[0]::bigint, w.stripe, w.last_number, w.count) END) q
            CROSS JOIN LATERAL ledger.legs_of(q) l
            WHERE w.is_scattered AND w.oldest + 1 < w.version) p
        WHERE coalesce(w.newer < row_limit, true)
        ORDER BY w.time DESC, w.worker DESC, p.number DESC LIMIT row_limit)
    SELECT p.transfer_id, other.id, p.amount, p.pending_amount, s.code, ledger.transfer_flags(s.flags),
           (p.stripe & 1023)::integer, p.version, p.debits_pending, p.debits_posted,
           p.credits_pending, p.credits_posted, p.time, p.number
    FROM postings p
    JOIN ledger.spent s ON s.id = p.transfer_id
    JOIN ledger.accounts other
      ON other.number = CASE account WHEN s.debit_account THEN s.credit_account ELSE s.debit_account END
    ORDER BY p.time DESC, p.worker DESC, p.number DESC;
END $$;

-- The rows of a stripe that one flush wrote, by halving: numbers rise with versions.
CREATE FUNCTION ledger.rows_of_flush(wanted_stripe bigint, wanted_flush bigint)
    RETURNS TABLE (place tid, kept ledger.posted)
    LANGUAGE plpgsql STABLE PARALLEL SAFE
    SET plan_cache_mode = force_generic_plan
    SET enable_seqscan = off SET enable_bitmapscan = off AS $$
DECLARE
    low    bigint := 0;
    high   bigint;
    middle bigint;
    probe  record;
BEGIN
    SELECT p.version INTO high FROM ledger.posted p
    WHERE p.stripe = wanted_stripe AND p.run > 0 ORDER BY p.version - p.run DESC LIMIT 1;
    -- Before `low` all are of earlier flushes, from `high` on none is.
    WHILE low < high LOOP
        middle := (low + high) / 2;
        SELECT p.version, p.run, p.number >> 20 AS flush INTO probe FROM ledger.posted p
        WHERE p.stripe = wanted_stripe AND p.run > 0 AND p.version - p.run <= middle
        ORDER BY p.version - p.run DESC LIMIT 1;
        IF NOT FOUND THEN
            RETURN;
        ELSIF probe.flush < wanted_flush THEN
            low := greatest(probe.version, middle + 1);
        ELSE
            high := probe.version - probe.run;
        END IF;
    END LOOP;
    FOR probe IN
        SELECT p.ctid AS at, p AS of_flush, p.number >> 20 AS flush FROM ledger.posted p
        WHERE p.stripe = wanted_stripe AND p.run > 0 AND p.version - p.run >= low
        ORDER BY p.version - p.run
    LOOP
        EXIT WHEN probe.flush <> wanted_flush;
        place := probe.at;
        kept := probe.of_flush;
        RETURN NEXT;
    END LOOP;
END $$;

-- The postings of a stripe in one flush, however they are kept.
CREATE FUNCTION ledger.legs_of_flush(wanted_stripe bigint, wanted_flush bigint)
    RETURNS TABLE (version bigint, number bigint, transfer_id uuid, amount bigint, pending_amount bigint,
                   is_debit boolean, debits_pending bigint, debits_posted bigint,
                   credits_pending bigint, credits_posted bigint)
    LANGUAGE sql STABLE PARALLEL SAFE AS $$
SELECT l.*
FROM ledger.rows_of_flush(wanted_stripe, wanted_flush) r
CROSS JOIN LATERAL (
    SELECT l.* FROM ledger.legs_of(r.kept) l
    WHERE (r.kept).run = 1 OR (r.kept).earlier_transfers IS NOT NULL
    UNION ALL
    SELECT l.*
    FROM unnest(ledger.postings_around(
        (r.place::text::point)[0]::bigint, wanted_stripe, (r.kept).number, (r.kept).run)) q
    CROSS JOIN LATERAL ledger.legs_of(q) l
    WHERE (r.kept).run > 1 AND (r.kept).earlier_transfers IS NULL) l
$$;

-- The postings of one transfer, by probes: of both accounts' stripes the rows that its flush wrote,
-- and where it was a hold that expired, those that the expiry's flush wrote.
CREATE FUNCTION ledger.postings_of(wanted uuid)
RETURNS TABLE (account_id uuid, transfer_id uuid, amount bigint, pending_amount bigint,
               shard integer, version bigint, debits_pending bigint, debits_posted bigint,
               credits_pending bigint, credits_posted bigint,
               posted_at timestamptz, worker uuid, number bigint)
    LANGUAGE plpgsql STABLE PARALLEL SAFE
    SET plan_cache_mode = force_generic_plan
    SET enable_seqscan = off SET enable_bitmapscan = off
    SET enable_hashjoin = off SET enable_mergejoin = off AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    SELECT a.id, l.transfer_id, l.amount, l.pending_amount, (n.stripe & 1023)::integer, l.version,
           l.debits_pending, l.debits_posted, l.credits_pending, l.credits_posted,
           f.time, f.worker, l.number
    FROM ledger.spent s
    LEFT JOIN ledger.resolutions r ON r.hold_id = s.id AND r.status = 'expired'
    CROSS JOIN LATERAL (VALUES (s.number >> 20), (r.number >> 20)) AS flush(number)
    JOIN ledger.flushes f ON f.number = flush.number
    CROSS JOIN LATERAL (VALUES (s.debit_account), (s.credit_account)) AS account(number)
    JOIN ledger.accounts a ON a.number = account.number
    CROSS JOIN LATERAL ledger.newest(account.number) n
    CROSS JOIN LATERAL ledger.legs_of_flush(n.stripe, flush.number) l
    WHERE s.id = wanted AND s.outcome = 0 AND l.transfer_id = s.id
    ORDER BY l.number;
END $$;
COMMENT ON FUNCTION ledger.postings_of IS
    'The postings of one transfer. In postings itself a condition on transfer_id reads every row';
