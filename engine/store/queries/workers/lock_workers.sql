-- Queue with whoever flushes, takes or borrows. Sorted, as everywhere: no deadlock.
SELECT worker FROM ledger.workers WHERE worker = ANY ($1::uuid[]) ORDER BY worker FOR UPDATE
