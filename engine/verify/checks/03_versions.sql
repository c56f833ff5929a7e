-- The versions of each stripe run from 1 without gaps, in the order of writing, and so do its runs.
-- Counts: postings
--
-- The postings of a stripe in one flush are a run: neighbours, of which the last alone has the
-- length. The runs are what the optimistic lock stands on, and what finds the newest balance.
WITH steps AS (
    SELECT p.number, p.stripe, p.version, p.run, p.transfer_id, f.time,
           lag(p.version, 1, 0::bigint) OVER stripe AS version_before,
           lag(p.number) OVER stripe AS number_before,
           lag(p.run) OVER stripe AS run_before,
           lag(f.time) OVER stripe AS time_before,
           lead(p.version) OVER stripe IS NULL AS is_last,
           max(p.version) FILTER (WHERE p.run > 0) OVER (
               stripe ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS ended_before
    FROM ledger.posted p
    LEFT JOIN ledger.flushes f ON f.number = p.number >> 20
    WINDOW stripe AS (PARTITION BY p.stripe ORDER BY p.version))

SELECT 'postings' AS what,
       CASE
           WHEN version = version_before THEN 'its version stands twice'
           WHEN version <> version_before + 1 THEN 'the version before it is missing'
           WHEN steps.number <= number_before THEN 'it was written before the version it builds on'
           WHEN steps.number >> 20 <> number_before >> 20 AND time <= time_before
               THEN 'its flush is not later than that of the version it builds on'
           WHEN steps.number >> 20 <> number_before >> 20 AND run_before = 0
               THEN 'the run before it has no end'
           WHEN steps.number >> 20 = number_before >> 20
                AND (steps.number <> number_before + 1 OR run_before <> 0)
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
