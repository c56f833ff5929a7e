-- Freezes by their numbers, and those of which the thaw, with a number above $2, declines what waited.
SELECT f.freeze_number, f.kind, f.what, f.declines, f.acted_by, f.reason, f.time, t.freeze_number AS thaw
FROM ledger.freezes f LEFT JOIN ledger.freezes t ON t.thaws = f.freeze_number
WHERE f.freeze_number = ANY ($1::bigint[]) OR (t.declines AND t.freeze_number > $2)
ORDER BY f.freeze_number
