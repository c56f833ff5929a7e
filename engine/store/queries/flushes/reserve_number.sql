-- Above the number of everything that was written before.
SELECT nextval('ledger.flush_numbers') AS number
