-- A plan is applied, or once more where it did not come to its end.
INSERT INTO ledger.plans (plan, document, applied_by) VALUES ($1, $2, $3)
ON CONFLICT (plan) DO UPDATE SET state = 'applying', ended_at = NULL, why = NULL
    WHERE ledger.plans.state IN ('applying', 'failed')
RETURNING state
