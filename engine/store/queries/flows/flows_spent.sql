-- What the ledger has under ids; those that are free are left out.
SELECT s.id, s.outcome, d.id AS debit_account_id, c.id AS credit_account_id, s.amount, d.ledger,
       s.code, s.flags, s.timeout, s.pending_id, s.user_data_128, s.user_data_64, s.user_data_32,
       s.request, r.status
FROM unnest($1::uuid[]) AS wanted(id)
JOIN ledger.spent s ON s.id = wanted.id
LEFT JOIN ledger.accounts d ON d.number = s.debit_account
LEFT JOIN ledger.accounts c ON c.number = s.credit_account
LEFT JOIN ledger.resolutions r ON r.hold_id = s.id
