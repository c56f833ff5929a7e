-- A small flush in one round trip: the same rows as by COPY, one statement, its own transaction.
-- Postgres runs the inserts in an order of its own, so each begins with `me`: the worker's row is
-- locked before anything else, as everywhere. Last the rows that are there are counted: one that a
-- trigger swallowed makes it fail, as a number that cannot be read.
WITH me AS (SELECT worker FROM ledger.workers WHERE worker = $1 FOR UPDATE),
fence AS (
    INSERT INTO ledger.flushes (worker, sequence, number, kind, time, transfers, declined, postings,
                                form, digest, seals)
    SELECT me.worker, $2, $3, 'flush', $4, $5, $6, $7, 2, $46, ledger.seals_of($47::bigint[]) FROM me
    RETURNING 1),
spent AS (
    INSERT INTO ledger.spent (id, number, debit_account, credit_account, amount, code, flags, shard,
                              outcome, timeout, expires_at, pending_id, user_data_128,
                              user_data_64, user_data_32, request)
    SELECT new.* FROM me, unnest($8::uuid[], $9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[],
                         $13::integer[], $14::smallint[], $15::smallint[], $16::smallint[],
                         $17::bigint[], $18::timestamptz[], $19::uuid[], $20::uuid[],
                         $21::bigint[], $22::bigint[], $23::bytea[]) AS new
    RETURNING 1),
runs AS (
    SELECT run.*, run.stop > run.start AS is_several,
           run.stop > run.start AND EXISTS (
               SELECT FROM unnest(($27::bigint[])[run.start:run.stop]) AS held(amount) WHERE held.amount <> 0) AS holds
    FROM unnest($29::integer[], $30::integer[], $31::bigint[], $32::bigint[], $33::bigint[],
                $34::bigint[], $35::bigint[], $36::bigint[])
         AS run(start, stop, stripe, version, debits_pending, debits_posted, credits_pending, credits_posted)),
posted AS (
    INSERT INTO ledger.posted (number, stripe, version, run, transfer_id, amount, pending_amount,
                               debits_pending, debits_posted, credits_pending, credits_posted,
                               earlier_transfers, earlier_amounts, earlier_pending, debit)
    SELECT $24::bigint + r.stop - 1, r.stripe, r.version, r.stop - r.start + 1,
           ($25::uuid[])[r.stop], ($26::bigint[])[r.stop], ($27::bigint[])[r.stop],
           r.debits_pending, r.debits_posted, r.credits_pending, r.credits_posted,
           CASE WHEN r.is_several THEN ($25::uuid[])[r.start:r.stop - 1] END,
           CASE WHEN r.is_several THEN ($26::bigint[])[r.start:r.stop - 1] END,
           CASE WHEN r.holds THEN ($27::bigint[])[r.start:r.stop - 1] END,
           CASE WHEN r.holds THEN ($28::boolean[])[r.start:r.stop] END
    FROM me, runs r
    RETURNING 1),
resolved AS (
    INSERT INTO ledger.resolutions (hold_id, transfer_id, status, number)
    SELECT new.* FROM me, unnest($37::uuid[], $38::uuid[], $39::text[], $40::bigint[]) AS new
    RETURNING 1),
moved AS (
    INSERT INTO ledger.positions (shard, flush, generation, ms, seq, time)
    SELECT p.shard, $3, p.generation, p.ms, p.seq, p.time
    FROM me, unnest($41::smallint[], $42::integer[], $43::bigint[], $44::bigint[],
                    $45::timestamptz[])
         AS p(shard, generation, ms, seq, time)
    RETURNING 1),
there AS (
    SELECT (SELECT count(*) FROM fence) AS flushes, (SELECT count(*) FROM spent) AS spent,
           (SELECT count(*) FROM posted) AS posted, (SELECT count(*) FROM resolved) AS resolutions,
           (SELECT count(*) FROM moved) AS positions)
SELECT CASE
    WHEN (flushes, spent, posted, resolutions, positions)
         = (1, cardinality($8), cardinality($29), cardinality($37), cardinality($41))
    THEN nextval('ledger.flush_numbers')
    ELSE ('rows are gone: ' || concat_ws(', ',
        CASE WHEN flushes <> 1 THEN 'ledger.flushes' END,
        CASE WHEN spent <> cardinality($8) THEN 'ledger.spent' END,
        CASE WHEN posted <> cardinality($29) THEN 'ledger.posted' END,
        CASE WHEN resolutions <> cardinality($37) THEN 'ledger.resolutions' END,
        CASE WHEN positions <> cardinality($41) THEN 'ledger.positions' END))::bigint
    END AS next_number
FROM there
