-- The sums over the stripes of accounts other than the ones that this worker writes.
SELECT a.number,
       ARRAY[ledger.saturated(sum(n.debits_pending)), ledger.saturated(sum(n.debits_posted)),
             ledger.saturated(sum(n.credits_pending)), ledger.saturated(sum(n.credits_posted))] AS others,
       max(f.time) AS others_time
FROM unnest($1::bigint[]) AS wanted(number)
JOIN ledger.accounts a ON a.number = wanted.number
LEFT JOIN LATERAL ledger.newest(a.number) n ON n.stripe <> a.number * 1024 + a.shard
LEFT JOIN ledger.flushes f ON f.number = n.number >> 20
GROUP BY a.number
