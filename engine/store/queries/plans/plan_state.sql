SELECT state FROM ledger.plans WHERE plan = $1
