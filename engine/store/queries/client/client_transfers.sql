-- Created transfers, in the order asked for; ids that are none are left out.
SELECT t.id, t.debit_account_id, t.credit_account_id, t.amount, t.ledger, t.code, t.flags,
       t.pending_id, t.timeout, t.user_data_128, t.user_data_64, t.user_data_32,
       t.posted_at, t.shard
FROM unnest($1::uuid[]) WITH ORDINALITY AS wanted(id, place)
JOIN ledger.transfers t ON t.id = wanted.id
ORDER BY wanted.place
