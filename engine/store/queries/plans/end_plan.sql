UPDATE ledger.plans SET state = $2, why = $3, ended_at = clock_timestamp()
WHERE plan = $1 AND state = 'applying'
