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
CREATE FUNCTION ledger.newest(account bigint) RETURNS SETOF ledger.posted
    LANGUAGE sql STABLE STRICT PARALLEL SAFE AS $$
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

-- The newest postings of one stripe, by its runs. The others of a run lie before its last one,
-- nearly always on the same page or the one before (a COPY writes them together); where other
-- writers took the pages in between, the search widens until the run is whole.
CREATE FUNCTION ledger.newest_postings(wanted_stripe bigint, row_limit integer, before timestamptz)
    RETURNS SETOF ledger.posted
    LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE AS $$
DECLARE
    last_of_run record;
    missing     integer := row_limit;
    wanted      integer;
    here        integer;
    pages       bigint;
    found       ledger.posted[];
BEGIN
    FOR last_of_run IN
        SELECT p.ctid AS place, (p.ctid::text::point)[0]::bigint AS page, p.number, p.run
        FROM ledger.posted p JOIN ledger.flushes f ON f.number = p.number >> 20
        WHERE p.stripe = wanted_stripe AND p.run > 0 AND f.time < before
        ORDER BY p.version - p.run DESC
    LOOP
        EXIT WHEN missing <= 0;
        wanted := least(last_of_run.run, missing);
        FOREACH pages IN ARRAY ARRAY[1, 64, 4096, 2147483647] LOOP
            found := ARRAY(
                SELECT p FROM ledger.posted p
                WHERE p.ctid >= format('(%s,0)', greatest(last_of_run.page - pages, 0))::tid
                  AND p.ctid <= CASE WHEN pages < 2147483647 THEN last_of_run.place
                                     ELSE '(4294967294,0)'::tid END
                  AND p.stripe = wanted_stripe
                  AND p.number BETWEEN last_of_run.number - wanted + 1 AND last_of_run.number);
            here := cardinality(found);
            EXIT WHEN here = wanted;
        END LOOP;
        IF here <> wanted THEN
            RAISE EXCEPTION 'stripe % has % of the last % postings of a run of %',
                wanted_stripe, here, wanted, last_of_run.run USING ERRCODE = 'data_corrupted';
        END IF;
        RETURN QUERY SELECT * FROM unnest(found);
        missing := missing - wanted;
    END LOOP;
END $$;

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

-- The postings of an account, newest first, from any point in time backwards.
CREATE FUNCTION ledger.history(
    account_id uuid,
    row_limit  integer DEFAULT 100,
    before     timestamptz DEFAULT 'infinity')
RETURNS TABLE (transfer_id uuid, other_account_id uuid, amount bigint, pending_amount bigint,
               code integer, flags text[], shard integer, version bigint,
               debits_pending bigint, debits_posted bigint,
               credits_pending bigint, credits_posted bigint, posted_at timestamptz)
    LANGUAGE sql STABLE PARALLEL SAFE AS $$
WITH account AS MATERIALIZED (
    SELECT a.number FROM ledger.accounts a WHERE a.id = history.account_id),
stripes AS MATERIALIZED (
    SELECT n.stripe FROM account, ledger.newest(account.number) n),
newest AS (
    SELECT p.*, f.time, f.worker
    FROM stripes
    CROSS JOIN LATERAL ledger.newest_postings(stripes.stripe, history.row_limit, history.before) p
    JOIN ledger.flushes f ON f.number = p.number >> 20
    ORDER BY f.time DESC, f.worker DESC, p.number DESC LIMIT history.row_limit)
SELECT n.transfer_id, CASE WHEN s.debit_account = account.number THEN c.id ELSE d.id END,
       n.amount, n.pending_amount, s.code, ledger.transfer_flags(s.flags),
       (n.stripe & 1023)::integer, n.version,
       n.debits_pending, n.debits_posted, n.credits_pending, n.credits_posted, n.time
FROM newest n
CROSS JOIN account
JOIN ledger.spent s ON s.id = n.transfer_id
JOIN ledger.accounts d ON d.number = s.debit_account
JOIN ledger.accounts c ON c.number = s.credit_account
ORDER BY n.time DESC, n.worker DESC, n.number DESC $$;
COMMENT ON FUNCTION ledger.history IS
    'The last postings of an account, newest first; counters are those of the stripe (shard) after the posting';

CREATE VIEW ledger.shards AS
SELECT o.shard::integer AS shard, nullif(o.worker, '00000000-0000-0000-0000-000000000000') AS worker,
       coalesce(p.generation, 0) AS generation, coalesce(p.ms, 0) AS ms, coalesce(p.seq, 0) AS seq,
       coalesce(p.ms, 0) || '-' || coalesce(p.seq, 0) AS position, p.time
FROM ledger.owners o
LEFT JOIN LATERAL (SELECT * FROM ledger.positions p WHERE p.shard = o.shard
                   ORDER BY p.flush DESC LIMIT 1) p ON true;
COMMENT ON VIEW ledger.shards IS
    'Who owns each shard, and the id of the last stream entry that is decided and committed';
