-- The chains of all workers, in the order of flushes.
SELECT number AS flush, worker, sequence, kind, form, digest, seals, link, other, transfers,
       declined, postings, (extract(epoch
FROM time) * 1000000)::bigint AS time
FROM ledger.flushes
WHERE number BETWEEN $1 AND $2
ORDER BY number
