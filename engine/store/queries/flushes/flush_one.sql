-- A flush of one created transfer, its two postings each a run: as `flush_small`, without an array,
-- each of which costs more than its row. Its second position is NULL where it touches one shard alone.
-- Postgres runs the inserts in an order of its own, so each begins with `me`: the worker's row is
-- locked before anything else, as everywhere. Rows are counted as in `flush_small`.
WITH me AS (SELECT worker FROM ledger.workers WHERE worker = $1 FOR UPDATE),
fence AS (
    INSERT INTO ledger.flushes (worker, sequence, number, kind, time, transfers, declined, postings,
                                form, digest, seals)
    SELECT me.worker, $2::bigint, $3::bigint, 'flush', $4::timestamptz, 1, 0, 2, 2, $5::bytea,
           ledger.seals_of($6::bigint[]) FROM me
    RETURNING 1),
spent AS (
    INSERT INTO ledger.spent (id, number, debit_account, credit_account, amount, code, flags, shard,
                              outcome, timeout, expires_at, user_data_128, user_data_64, user_data_32)
    SELECT $7::uuid, $8::bigint, $9::bigint, $10::bigint, $11::bigint, $12::integer, $13::smallint,
           $14::smallint, 0, $15::bigint, $16::timestamptz, $17::uuid, $18::bigint, $19::bigint FROM me
    RETURNING 1),
posted AS (
    INSERT INTO ledger.posted (number, stripe, version, run, transfer_id, amount, pending_amount,
                               debits_pending, debits_posted, credits_pending, credits_posted)
    SELECT $8 + p.place, p.stripe, p.version, 1, $7, p.amount, p.pending_amount,
           p.debits_pending, p.debits_posted, p.credits_pending, p.credits_posted
    FROM me, (VALUES
        (0, $20::bigint, $21::bigint, $22::bigint, $23::bigint, $24::bigint, $25::bigint, $26::bigint, $27::bigint),
        (1, $28::bigint, $29::bigint, $30::bigint, $31::bigint, $32::bigint, $33::bigint, $34::bigint, $35::bigint)
    ) AS p(place, stripe, version, amount, pending_amount,
           debits_pending, debits_posted, credits_pending, credits_posted)
    RETURNING 1),
moved AS (
    INSERT INTO ledger.positions (shard, flush, generation, ms, seq, time)
    SELECT p.shard, $3, p.generation, p.ms, p.seq, p.time
    FROM me, (VALUES
        ($36::smallint, $37::integer, $38::bigint, $39::bigint, $40::timestamptz),
        ($41::smallint, $42::integer, $43::bigint, $44::bigint, $45::timestamptz)
    ) AS p(shard, generation, ms, seq, time)
    WHERE p.shard IS NOT NULL
    RETURNING 1),
there AS (
    SELECT (SELECT count(*) FROM fence) AS flushes, (SELECT count(*) FROM spent) AS spent,
           (SELECT count(*) FROM posted) AS posted,
           (SELECT count(*) FROM moved) = num_nonnulls($36, $41) AS is_moved)
SELECT CASE
    WHEN (flushes, spent, posted, is_moved) = (1, 1, 2, true) THEN nextval('ledger.flush_numbers')
    ELSE ('rows are gone: ' || concat_ws(', ',
        CASE WHEN flushes <> 1 THEN 'ledger.flushes' END,
        CASE WHEN spent <> 1 THEN 'ledger.spent' END,
        CASE WHEN posted <> 2 THEN 'ledger.posted' END,
        CASE WHEN NOT is_moved THEN 'ledger.positions' END))::bigint
    END AS next_number
FROM there
