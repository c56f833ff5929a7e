-- Dead letters among the newest that contain one of some strings of bytes.
SELECT n.letter, n.shard, n.ms || '-' || n.seq AS entry, n.reason, n.state,
       to_char(n.received_at, 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS received_at,
       n.generation, n.ms, n.seq
FROM (SELECT * FROM ledger.letters ORDER BY received_at DESC LIMIT $2) n
WHERE EXISTS (SELECT FROM unnest(n.fields) AS field, unnest($1::bytea[]) AS wanted
              WHERE position(wanted IN field) > 0)
ORDER BY n.received_at DESC
