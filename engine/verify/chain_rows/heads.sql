-- The end of each chain: the links there are of every worker that ever wrote.
SELECT DISTINCT ON (worker) worker, sequence, link
FROM ledger.flushes
WHERE link IS NOT NULL
ORDER BY worker, sequence DESC
