-- The ledger was checked.
INSERT INTO ledger.verifications (seconds, passed, failed) VALUES ($1, $2, $3)
