-- A dead letter, whole.
SELECT l.letter, l.shard, l.ms || '-' || l.seq AS entry, l.reason, l.state,
       to_char(l.received_at, 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS received_at,
       l.generation, l.ms, l.seq, l.fields, l.acted_by, l.act_reason, l.resent_as,
       to_char(l.acted_at, 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS acted_at
FROM ledger.letters l WHERE l.shard = $1 AND l.generation = $2 AND l.ms = $3 AND l.seq = $4
