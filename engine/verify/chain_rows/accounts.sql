-- Accounts, with all that their seals are made of.
SELECT number, id, ledger, code, flags, user_data_128, user_data_64::text AS user_data_64,
       user_data_32, (extract(epoch
FROM created_at) * 1000000)::bigint AS created_at, seal
FROM ledger.accounts
