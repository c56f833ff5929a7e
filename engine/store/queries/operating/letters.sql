-- Dead letters, the newest first; of one state, or of all.
SELECT l.letter, l.shard, l.ms || '-' || l.seq AS entry, l.reason, l.state,
       to_char(l.received_at, 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS received_at,
       l.generation, l.ms, l.seq
FROM ledger.letters l WHERE $1::text IS NULL OR l.state = $1
ORDER BY l.received_at DESC LIMIT $2
