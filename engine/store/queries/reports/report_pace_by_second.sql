-- What was decided in each of the last seconds, the oldest first; seconds without a flush are left out.
SELECT (-floor(extract(epoch FROM f.time - date_trunc('second', clock_timestamp()))))::integer AS ago,
       sum(f.transfers)::bigint AS created, sum(f.declined)::bigint AS declined
FROM (SELECT * FROM ledger.flushes ORDER BY number DESC LIMIT 10000) f
WHERE f.time > date_trunc('second', clock_timestamp()) - make_interval(secs => $1)
GROUP BY 1
HAVING sum(f.transfers) + sum(f.declined) > 0
ORDER BY 1 DESC
