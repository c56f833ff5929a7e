-- Which ledger this is; every copy of its database says the same.
SELECT identity FROM ledger.settings
