-- Plans that are being applied come to their end: of $2 only, where it is given.
UPDATE ledger.plans SET state = 'aborted', why = $1, ended_at = clock_timestamp()
WHERE state IN ('applying', 'failed') AND ($2::uuid IS NULL OR plan = $2)
RETURNING plan::text AS plan
