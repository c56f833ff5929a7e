-- How many transfers were created and how many refusals were kept, by the chains of all workers.
SELECT coalesce(sum(transfers), 0)::bigint AS created, coalesce(sum(declined), 0)::bigint AS declined
FROM ledger.flushes
