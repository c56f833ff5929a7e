-- The outcomes as the ledger names them.
SELECT number, name FROM ledger.outcomes ORDER BY number
