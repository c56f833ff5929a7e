-- Accounts in the order of their creation.
SELECT a.id::text AS id, a.name, a.ledger, a.code,
       ARRAY(SELECT f FROM unnest(a.flags) AS f WHERE f IS NOT NULL) AS flags, a.shard, a.closed,
       a.user_data_128::text AS user_data_128, a.user_data_64::text AS user_data_64,
       a.user_data_32, coalesce(to_char(a.created_at, 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), a.created_at::text) AS created_at
FROM ledger.accounts a
ORDER BY a.number
LIMIT $1
