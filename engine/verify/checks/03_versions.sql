-- The versions of each stripe run from 1 without gaps, in the order of writing, and so do its runs.
-- Counts: runs
--
-- The postings of a stripe in one flush are neighbours, in runs of at most 48. A run is a row; one
-- that was written before migration 6 is as many rows, of which the last alone has the length. The
-- runs are what the optimistic lock stands on, and what finds the newest balance.
WITH rows AS (
    SELECT p.number, p.stripe, p.version, p.run, p.transfer_id, f.time,
           coalesce(cardinality(p.earlier_transfers), 0) + 1 AS length,
           CASE
               WHEN p.earlier_transfers IS NULL THEN
                   num_nonnulls(p.earlier_amounts, p.earlier_pending, p.debit) > 0
               ELSE cardinality(p.earlier_transfers) NOT BETWEEN 1 AND 47
                    OR p.run <> cardinality(p.earlier_transfers) + 1
                    OR cardinality(p.earlier_amounts) IS DISTINCT FROM p.run - 1
                    OR array_position(p.earlier_transfers, NULL) IS NOT NULL
                    OR array_position(p.earlier_amounts, NULL) IS NOT NULL
                    OR (p.pending_amount <> 0 AND p.earlier_pending IS NULL)
                    OR (p.earlier_pending IS NULL) <> (p.debit IS NULL)
                    OR cardinality(p.earlier_pending) <> p.run - 1
                    OR cardinality(p.debit) <> p.run
                    OR array_position(p.earlier_pending, NULL) IS NOT NULL
                    OR array_position(p.debit, NULL) IS NOT NULL
           END AS is_uneven
    FROM ledger.posted p
    LEFT JOIN ledger.flushes f ON f.number = p.number >> 20),

steps AS (
    SELECT *, lag(version, 1, 0::bigint) OVER stripe AS version_before,
           lag(number) OVER stripe AS number_before,
           lag(run) OVER stripe AS run_before,
           lag(time) OVER stripe AS time_before,
           lead(version) OVER stripe IS NULL AS is_last,
           max(version) FILTER (WHERE run > 0) OVER (
               stripe ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS ended_before
    FROM rows
    WINDOW stripe AS (PARTITION BY stripe ORDER BY version))

SELECT 'runs' AS what,
       CASE
           WHEN is_uneven THEN 'what it says of its postings is not of one length'
           WHEN version = version_before THEN 'its version stands twice'
           WHEN version - length <> version_before THEN 'the version before it is missing'
           WHEN steps.number - length + 1 <= number_before
               THEN 'it was written before the version it builds on'
           WHEN steps.number >> 20 <> number_before >> 20 AND time <= time_before
               THEN 'its flush is not later than that of the version it builds on'
           WHEN steps.number >> 20 <> number_before >> 20 AND run_before = 0
               THEN 'the run before it has no end'
           WHEN (steps.number - length + 1) >> 20 <> steps.number >> 20
               THEN 'it is of two flushes'
           WHEN steps.number >> 20 = number_before >> 20
                AND (steps.number - length <> number_before OR run_before NOT IN (0, 48))
               THEN 'it is in one flush with the version before it, but not in one run'
           WHEN run > 0 AND run <> version - coalesce(ended_before, 0)
               THEN 'it ends a run of another length'
           WHEN is_last AND run = 0 THEN 'the last run has no end'
           WHEN run < 0 THEN 'the length of its run is negative'
       END AS fault,
       steps.number AS place,
       jsonb_build_object('account_id', a.id, 'shard', stripe & 1023, 'version', version,
                          'version_before', version_before, 'run', run,
                          'transfer_id', transfer_id) AS offender
FROM steps
LEFT JOIN ledger.accounts a ON a.number = stripe >> 10
