-- Accounts as they were created; ids that are none are left out.
SELECT a.id, a.ledger, a.code, a.flags, a.user_data_128, a.user_data_64, a.user_data_32
FROM ledger.accounts a
WHERE a.id = ANY ($1::uuid[])
