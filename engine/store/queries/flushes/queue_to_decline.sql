-- Whoever declines for want of funds that others may be bringing queues here, until its commit.
SELECT FROM ledger.settings FOR UPDATE
