-- Whoever declines for want of funds that others may be bringing queues here, until its commit.
SELECT pg_advisory_xact_lock(hashtextextended('ledger: declining for want of funds', 0))
