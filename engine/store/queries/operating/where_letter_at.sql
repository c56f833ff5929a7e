-- The dead letters of an entry: one for each generation of its stream.
SELECT l.letter, l.shard, l.ms || '-' || l.seq AS entry, l.reason, l.state,
       to_char(l.received_at, 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS received_at,
       l.generation, l.ms, l.seq
FROM ledger.letters l WHERE l.shard = $1 AND l.ms = $2 AND l.seq = $3
ORDER BY l.received_at DESC
