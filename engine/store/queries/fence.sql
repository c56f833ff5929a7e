-- My next number: fails with a unique violation when another wrote in this chain.
INSERT INTO ledger.flushes (worker, sequence, kind, time, transfers, declined, postings)
VALUES ($1, $2, $3, $4, $5, $6, $7)
RETURNING number
