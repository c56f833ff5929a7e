-- My next number, once those who write in my chain are through with it: a unique violation
-- when one of them took it. $9 is the digest of what is written, $10 the accounts that it is the first
-- to write to. Returns the number for the flush after this one.
WITH me AS (SELECT worker FROM ledger.workers WHERE worker = $1 FOR UPDATE)
INSERT INTO ledger.flushes (worker, sequence, number, kind, time, transfers, declined, postings,
                            form, digest, seals)
SELECT me.worker, $2, $3, $4, $5, $6, $7, $8, 2, $9, ledger.seals_of($10::bigint[]) FROM me
RETURNING nextval('ledger.flush_numbers') AS next_number
