-- The last number in a worker's chain.
SELECT coalesce(max(sequence), 0) AS sequence FROM ledger.flushes WHERE worker = $1
