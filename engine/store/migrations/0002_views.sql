-- What everybody reads: views and functions that need no knowledge of how things are kept.

CREATE VIEW ledger.transfers AS
SELECT s.id, d.id AS debit_account_id, c.id AS credit_account_id, s.amount, d.ledger, s.code,
       ledger.transfer_flags(s.flags) AS flags,
       nullif(s.pending_id, '00000000-0000-0000-0000-000000000000') AS pending_id,
       coalesce(s.timeout, 0) AS timeout,
       nullif(s.user_data_128, '00000000-0000-0000-0000-000000000000') AS user_data_128,
       ledger.unsigned(coalesce(s.user_data_64, 0)) AS user_data_64,
       coalesce(s.user_data_32, 0) AS user_data_32,
       f.time AS posted_at, s.expires_at, s.shard::integer AS shard, s.number
FROM ledger.spent s
JOIN ledger.accounts d ON d.number = s.debit_account
JOIN ledger.accounts c ON c.number = s.credit_account
JOIN ledger.flushes f ON f.number = s.number >> 20
WHERE s.outcome = 0;
COMMENT ON VIEW ledger.transfers IS 'Created transfers; amount is what was really moved, held or released';

CREATE VIEW ledger.declined AS
SELECT s.id, o.name AS outcome,
       ledger.uuid_at(s.request, 16) AS debit_account_id,
       ledger.uuid_at(s.request, 32) AS credit_account_id,
       ledger.little_endian(s.request, 48, 16) AS amount,
       nullif(ledger.uuid_at(s.request, 64), '00000000-0000-0000-0000-000000000000') AS pending_id,
       nullif(ledger.uuid_at(s.request, 80), '00000000-0000-0000-0000-000000000000') AS user_data_128,
       ledger.little_endian(s.request, 96, 8) AS user_data_64,
       ledger.little_endian(s.request, 104, 4)::bigint AS user_data_32,
       ledger.little_endian(s.request, 108, 4)::bigint AS timeout,
       ledger.little_endian(s.request, 112, 4)::bigint AS ledger,
       ledger.little_endian(s.request, 116, 2)::integer AS code,
       ledger.transfer_flags(s.flags) AS flags,
       f.time AS declined_at, s.shard::integer AS shard, s.number
FROM ledger.spent s
JOIN ledger.outcomes o ON o.number = s.outcome
JOIN ledger.flushes f ON f.number = s.number >> 20
WHERE s.outcome <> 0;
COMMENT ON VIEW ledger.declined IS 'Transfers that were refused in a way that spent their id, as they were requested';

CREATE VIEW ledger.postings AS
SELECT a.id AS account_id, p.transfer_id, p.amount, p.pending_amount,
       (p.stripe & 1023)::integer AS shard, p.version,
       p.debits_pending, p.debits_posted, p.credits_pending, p.credits_posted,
       f.time AS posted_at, f.worker, p.number
FROM ledger.posted p
JOIN ledger.accounts a ON a.number = p.stripe >> 10
JOIN ledger.flushes f ON f.number = p.number >> 20;
COMMENT ON VIEW ledger.postings IS
    'Legs: amount changes the posted balance, pending_amount the pending one, credit positive; the counters are those after it';

-- The newest posting of each stripe of an account, newest shard first; a probe a stripe.
-- Not STRICT, so that it becomes a part of the query that asks.
CREATE FUNCTION ledger.newest(account bigint) RETURNS SETOF ledger.posted
    LANGUAGE sql STABLE PARALLEL SAFE AS $$
WITH RECURSIVE newest AS (
    (SELECT p.* FROM ledger.posted p
     WHERE p.stripe BETWEEN newest.account * 1024 AND newest.account * 1024 + 1023 AND p.run > 0
     ORDER BY p.stripe DESC, p.version - p.run DESC LIMIT 1)
    UNION ALL
    SELECT lower.* FROM newest n CROSS JOIN LATERAL (
        SELECT p.* FROM ledger.posted p
        WHERE p.stripe >= newest.account * 1024 AND p.stripe < n.stripe AND p.run > 0
        ORDER BY p.stripe DESC, p.version - p.run DESC LIMIT 1) lower)
SELECT * FROM newest $$;

CREATE VIEW ledger.balances AS
SELECT a.id AS account_id,
       coalesce(b.debits_pending, 0)::bigint AS debits_pending,
       coalesce(b.debits_posted, 0)::bigint AS debits_posted,
       coalesce(b.credits_pending, 0)::bigint AS credits_pending,
       coalesce(b.credits_posted, 0)::bigint AS credits_posted,
       a.closed
FROM ledger.accounts a
CROSS JOIN LATERAL (
    SELECT sum(n.debits_pending) AS debits_pending, sum(n.debits_posted) AS debits_posted,
           sum(n.credits_pending) AS credits_pending, sum(n.credits_posted) AS credits_posted
    FROM ledger.newest(a.number) n) b;
COMMENT ON VIEW ledger.balances IS 'The four counters of every account, over all its stripes';

CREATE VIEW ledger.holds AS
SELECT t.id, t.debit_account_id, t.credit_account_id, t.amount, t.ledger, t.code, t.flags,
       t.posted_at, t.expires_at, t.shard,
       coalesce(r.status, 'pending') AS status, r.transfer_id AS resolved_by,
       f.time AS resolved_at
FROM ledger.transfers t
LEFT JOIN ledger.resolutions r ON r.hold_id = t.id
LEFT JOIN ledger.flushes f ON f.number = r.number >> 20
WHERE 'pending' = ANY (t.flags);
COMMENT ON VIEW ledger.holds IS 'Pending transfers and what became of them';

-- How many versions of a stripe come before a point in the order (time, worker, number), in which
-- its versions are too: halving what is left, from the newest one down.
CREATE FUNCTION ledger.versions_before(
    wanted_stripe bigint, newest bigint, point_time timestamptz, point_worker uuid, point_number bigint)
    RETURNS bigint
    LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$
DECLARE
    low    bigint := 0;
    high   bigint := newest;
    middle bigint := newest - 1;
    probe  record;
BEGIN
    WHILE low < high LOOP
        SELECT p.version, p.run, p.number, f.time, f.worker INTO probe
        FROM ledger.posted p JOIN ledger.flushes f ON f.number = p.number >> 20
        WHERE p.stripe = wanted_stripe AND p.run > 0 AND p.version - p.run <= middle
        ORDER BY p.version - p.run DESC LIMIT 1;
        IF probe.version > middle IS NOT TRUE THEN
            RAISE EXCEPTION 'stripe % has no version %', wanted_stripe, middle + 1
                USING ERRCODE = 'data_corrupted';
        ELSIF (probe.time, probe.worker, probe.number) < (point_time, point_worker, point_number) THEN
            low := probe.version;
        ELSIF (probe.time, probe.worker, probe.number - probe.run + 1)
              < (point_time, point_worker, point_number) THEN
            RETURN probe.version - (probe.number - point_number + 1);
        ELSE
            high := probe.version - probe.run;
        END IF;
        middle := (low + high) / 2;
    END LOOP;
    RETURN low;
END $$;

-- So many postings of a stripe up to one number, all of one run. A COPY writes a flush in pieces of
-- some pages each, between those of other writers and before or after them: with two writers 98% of
-- the neighbours that are not on one page or the next are within 128 pages, and all within 512.
CREATE FUNCTION ledger.postings_around(
    page bigint, wanted_stripe bigint, last_number bigint, wanted bigint)
    RETURNS ledger.posted[]
    LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$
DECLARE
    pages bigint := pg_relation_size('ledger.posted') / current_setting('block_size')::bigint;
    reach bigint := 32;
    rows  ledger.posted[];
BEGIN
    LOOP
        rows := ARRAY(
            SELECT p FROM ledger.posted p
            WHERE p.ctid >= format('(%s,0)', greatest(page - reach, 0))::tid
              AND p.ctid < format('(%s,0)', least(page + reach, pages))::tid
              AND p.stripe = wanted_stripe
              AND p.number > last_number - wanted AND p.number <= last_number);
        IF cardinality(rows) = wanted THEN
            RETURN rows;
        ELSIF reach > pages THEN
            RAISE EXCEPTION 'stripe % has % of % postings up to number %',
                wanted_stripe, cardinality(rows), wanted, last_number
                USING ERRCODE = 'data_corrupted';
        END IF;
        reach := reach * 4;
    END LOOP;
END $$;

-- The postings of an account, newest first, from any point in time or any posting backwards.
--
-- Versions are dense, so it is known which of them are wanted, and which runs they are in. Of a run
-- only the last posting is in the index; the others are nearly always right before it: those that
-- are not are looked for around it. Plans are kept, and are probes of indexes alone.
CREATE FUNCTION ledger.history(
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
    -- Of each stripe the runs with its wanted versions, (oldest, newest]; with where the last is.
    runs AS (
        SELECT r.*, f.time, f.worker, r.place::text::point AS at,
               greatest(r.version - r.run, s.newest - row_limit) AS oldest,
               least(r.version, s.newest) AS newest
        FROM stripes s
        CROSS JOIN LATERAL (
            SELECT p.ctid AS place, p.* FROM ledger.posted p
            WHERE p.stripe = s.stripe AND p.run > 0 AND p.version - p.run < s.newest
              AND p.version - p.run >= coalesce((
                  SELECT p.version - p.run FROM ledger.posted p
                  WHERE p.stripe = s.stripe AND p.run > 0 AND p.version - p.run <= s.newest - row_limit
                  ORDER BY p.version - p.run DESC LIMIT 1), 0)
            OFFSET 0) r
        JOIN ledger.flushes f ON f.number = r.number >> 20),
    -- Of all stripes together.
    wanted AS (
        SELECT r.*, r.number - r.version + r.newest AS last_number, r.newest - r.oldest AS count,
               sum(r.newest - r.oldest) OVER (
                   ORDER BY r.time DESC, r.worker DESC, r.number DESC
                   ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS newer
        FROM runs r),
    postings AS (
        SELECT p.*, w.time, w.worker
        FROM wanted w
        CROSS JOIN LATERAL (
            SELECT w.stripe, w.version, w.run, w.number, w.transfer_id, w.amount, w.pending_amount,
                   w.debits_pending, w.debits_posted, w.credits_pending, w.credits_posted
            WHERE w.oldest + 1 = w.version
            UNION ALL
            SELECT q.*
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
            WHERE w.oldest + 1 < w.version) p
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
COMMENT ON FUNCTION ledger.history IS
    'The last postings of an account, newest first; counters are those of the stripe (shard) after the posting. Page on with before_number, the number of the last one seen';

CREATE VIEW ledger.shards AS
SELECT o.shard::integer AS shard, nullif(o.worker, '00000000-0000-0000-0000-000000000000') AS worker,
       coalesce(p.generation, 0) AS generation, coalesce(p.ms, 0) AS ms, coalesce(p.seq, 0) AS seq,
       coalesce(p.ms, 0) || '-' || coalesce(p.seq, 0) AS position, p.time
FROM ledger.owners o
LEFT JOIN LATERAL (SELECT * FROM ledger.positions p WHERE p.shard = o.shard
                   ORDER BY p.flush DESC LIMIT 1) p ON true;
COMMENT ON VIEW ledger.shards IS
    'Who owns each shard, and the id of the last stream entry that is decided and committed';
