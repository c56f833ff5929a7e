-- The chain of each worker has no gaps, and each flush wrote exactly the rows that it counts.
-- Counts: flushes
--
-- A row's flush is its number >> 20. Rows of a loan or of a change of owner write nothing
-- themselves: a loan names the locked flush of another worker; a change of owner stands in both
-- chains, a claim in the former owner's with the number of the claim, a release in that of
-- the worker `nobody` with the same time; a freeze or thaw stands in the chains of all owners.
WITH written AS (
    SELECT flush, sum(transfers) AS transfers, sum(declined) AS declined,
           sum(postings) AS postings, sum(others) AS others
    FROM (SELECT number >> 20 AS flush, count(*) FILTER (WHERE outcome = 0) AS transfers,
                 count(*) FILTER (WHERE outcome <> 0) AS declined, 0 AS postings, 0 AS others
          FROM ledger.spent GROUP BY number >> 20
          UNION ALL
          SELECT number >> 20, 0, 0, sum(coalesce(cardinality(earlier_transfers), 0) + 1), 0
          FROM ledger.posted GROUP BY number >> 20
          UNION ALL
          SELECT number >> 20, 0, 0, 0, count(*) FROM ledger.resolutions GROUP BY number >> 20
          UNION ALL
          SELECT flush, 0, 0, 0, count(*) FROM ledger.positions GROUP BY flush) AS rows
    GROUP BY flush),

chains AS (
    SELECT f.*, lag(f.sequence, 1, 0::bigint) OVER chain AS sequence_before,
           lag(f.number) OVER chain AS number_before
    FROM ledger.flushes f
    WINDOW chain AS (PARTITION BY f.worker ORDER BY f.sequence, f.number)),

answered AS (
    SELECT other, count(*) AS times FROM ledger.flushes WHERE kind = 'claim' GROUP BY other),

releases AS (
    SELECT time,
           count(*) FILTER (WHERE worker <> '00000000-0000-0000-0000-000000000000') AS given,
           count(*) FILTER (WHERE worker = '00000000-0000-0000-0000-000000000000') AS taken
    FROM ledger.flushes WHERE kind = 'release' GROUP BY time)

SELECT 'flushes' AS what,
       CASE
           WHEN f.number IS NULL THEN 'rows are numbered by a flush that does not exist'
           WHEN f.sequence <> f.sequence_before + 1
               THEN 'its sequence is not the next one in the chain of its worker'
           WHEN f.number <= f.number_before THEN 'it is numbered before the row before it in its chain'
           WHEN f.kind IN ('lent', 'claim', 'release', 'freeze') AND w.flush IS NOT NULL
               THEN 'rows are numbered by it though it is no flush'
           WHEN f.transfers <> coalesce(w.transfers, 0)
               THEN 'it counts more or fewer created transfers than there are'
           WHEN f.declined <> coalesce(w.declined, 0)
               THEN 'it counts more or fewer declined transfers than there are'
           WHEN f.postings <> coalesce(w.postings, 0)
               THEN 'it counts more or fewer postings than there are'
           WHEN f.kind IN ('flush', 'locked', 'release') AND f.other IS NOT NULL
               THEN 'it names another flush, which its kind does not'
           WHEN f.kind = 'lent' AND (o.kind = 'locked' AND o.worker <> f.worker
                                     AND o.time = f.time) IS NOT TRUE
               THEN 'it lent to a flush that was not a locked one of another worker at its time'
           WHEN f.kind = 'claim' AND f.other IS NULL AND (answered.times = 1) IS NOT TRUE
               THEN 'it claims without one row in the chain of the former owner'
           WHEN f.kind = 'claim' AND f.other IS NOT NULL
                AND (o.kind = 'claim' AND o.other IS NULL AND o.worker <> f.worker) IS NOT TRUE
               THEN 'it was claimed from by no claim of another worker'
           WHEN f.kind = 'freeze' AND NOT EXISTS (SELECT FROM ledger.freezes z
                                                  WHERE z.freeze_number = f.other AND z.time = f.time)
               THEN 'it is of a freeze or thaw that is not there'
           WHEN f.kind = 'release' AND releases.given <> releases.taken
               THEN 'it released without a row in the chain of nobody, or the other way round'
       END AS fault,
       coalesce(f.number, w.flush) AS place,
       jsonb_build_object(
           'flush', coalesce(f.number, w.flush), 'worker', f.worker, 'sequence', f.sequence,
           'kind', f.kind, 'other', f.other,
           'counted', jsonb_build_object('transfers', f.transfers, 'declined', f.declined,
                                         'postings', f.postings),
           'written', jsonb_build_object('transfers', w.transfers, 'declined', w.declined,
                                         'postings', w.postings, 'others', w.others)) AS offender
FROM chains f
FULL JOIN written w ON w.flush = f.number
LEFT JOIN ledger.flushes o ON o.number = f.other
LEFT JOIN answered ON answered.other = f.number
LEFT JOIN releases ON releases.time = f.time
