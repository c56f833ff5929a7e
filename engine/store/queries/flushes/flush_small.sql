-- A small flush in one round trip: the same rows as by COPY, one statement, its own transaction.
-- Postgres runs the inserts in an order of its own, so each begins with `me`: the worker's row is
-- locked before anything else, as everywhere.
WITH me AS (SELECT worker FROM ledger.workers WHERE worker = $1 FOR UPDATE),
fence AS (
    INSERT INTO ledger.flushes (worker, sequence, number, kind, time, transfers, declined, postings)
    SELECT me.worker, $2, $3, 'flush', $4, $5, $6, $7 FROM me),
spent AS (
    INSERT INTO ledger.spent (id, number, debit_account, credit_account, amount, code, flags, shard,
                              outcome, timeout, expires_at, pending_id, user_data_128,
                              user_data_64, user_data_32, request)
    SELECT new.* FROM me, unnest($8::uuid[], $9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[],
                         $13::integer[], $14::smallint[], $15::smallint[], $16::smallint[],
                         $17::bigint[], $18::timestamptz[], $19::uuid[], $20::uuid[],
                         $21::bigint[], $22::bigint[], $23::bytea[]) AS new),
posted AS (
    INSERT INTO ledger.posted (number, stripe, version, transfer_id, amount, pending_amount,
                               debits_pending, debits_posted, credits_pending, credits_posted, run)
    SELECT new.* FROM me, unnest($24::bigint[], $25::bigint[], $26::bigint[], $27::uuid[], $28::bigint[],
                         $29::bigint[], $30::bigint[], $31::bigint[], $32::bigint[],
                         $33::bigint[], $34::integer[]) AS new),
resolved AS (
    INSERT INTO ledger.resolutions (hold_id, transfer_id, status, number)
    SELECT new.* FROM me, unnest($35::uuid[], $36::uuid[], $37::text[], $38::bigint[]) AS new),
moved AS (
    INSERT INTO ledger.positions (shard, flush, generation, ms, seq, time)
    SELECT p.shard, $3, p.generation, p.ms, p.seq, $4
    FROM me, unnest($39::smallint[], $40::integer[], $41::bigint[], $42::bigint[])
         AS p(shard, generation, ms, seq))
SELECT nextval('ledger.flush_numbers') AS next_number
