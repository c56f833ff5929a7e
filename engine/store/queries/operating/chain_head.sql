-- The end of a worker's chain, by its key alone.
SELECT s.identity::text AS ledger, f.worker::text, f.sequence, encode(f.link, 'hex') AS link
FROM ledger.flushes f CROSS JOIN ledger.settings s
WHERE f.worker = $1
ORDER BY f.sequence DESC
LIMIT 1
