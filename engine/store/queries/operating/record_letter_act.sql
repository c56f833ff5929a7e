-- Somebody dealt with a dead letter.
INSERT INTO ledger.letter_acts (shard, generation, ms, seq, kind, acted_by, reason, entry, repaired)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
