-- A dead letter; one that was read twice is kept once.
INSERT INTO ledger.dead_letters (shard, generation, ms, seq, reason, fields)
VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT DO NOTHING
