-- Ids that were spent, with their places in their flush.
SELECT number >> 20 AS flush, number & 1048575 AS place, id, shard, flags, outcome, code,
       debit_account, credit_account, amount, timeout, pending_id, user_data_128, user_data_64,
       user_data_32, request, (extract(epoch
FROM expires_at) * 1000000)::bigint AS expires_at
FROM ledger.spent
WHERE number BETWEEN $1::bigint << 20 AND ($2::bigint << 20) + 1048575
ORDER BY number
