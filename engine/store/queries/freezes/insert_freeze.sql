-- A freeze, or the thaw of the one that is in force for it.
INSERT INTO ledger.freezes (freeze_number, act, kind, what, declines, thaws, acted_by, reason, time)
SELECT $1, $2, $3, $4, $5,
       CASE $2 WHEN 'thaw' THEN coalesce((SELECT f.freeze_number FROM ledger.frozen f
                                          WHERE (f.kind, f.what) = ($3, $4)), 0) END,
       $6, $7, $8
RETURNING freeze_number
