-- Freezes and thaws, whole.
SELECT freeze_number, act, kind, what, declines, thaws, acted_by, reason, role,
       (extract(epoch
FROM time) * 1000000)::bigint AS time
FROM ledger.freezes
WHERE freeze_number >= $1
