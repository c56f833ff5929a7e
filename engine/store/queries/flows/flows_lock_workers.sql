-- Queue with whoever flushes or takes. Sorted, as everywhere: no deadlock.
SELECT worker FROM flows.workers WHERE worker = ANY ($1::uuid[]) ORDER BY worker FOR UPDATE
