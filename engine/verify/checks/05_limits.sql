-- Limits hold after every posting of every account, and no sum is negative or beyond 2^63-1.
-- Counts: runs
--
-- The account's history is that of all its stripes together, ordered by (time of the flush,
-- worker, number): each run of one stripe moves the account by what it moved the stripe. One
-- stripe alone may be negative, their sum may not. Where there is one stripe its counters are the
-- account's, and are read as they stand. Runs are judged as wholes; one in which a limit could
-- have been passed in between, since it earned and spent, is judged posting by posting.
WITH runs AS (
    SELECT p AS kept, p.number, p.stripe >> 10 AS account,
           p.debits_pending::numeric - lag(p.debits_pending, 1, 0::bigint) OVER stripe AS debits_pending,
           p.debits_posted::numeric - lag(p.debits_posted, 1, 0::bigint) OVER stripe AS debits_posted,
           p.credits_pending::numeric - lag(p.credits_pending, 1, 0::bigint) OVER stripe AS credits_pending,
           p.credits_posted::numeric - lag(p.credits_posted, 1, 0::bigint) OVER stripe AS credits_posted
    FROM ledger.posted p
    WINDOW stripe AS (PARTITION BY p.stripe ORDER BY p.version)),

striped AS (
    SELECT stripe >> 10 AS account
    FROM ledger.posted
    GROUP BY stripe >> 10
    HAVING min(stripe) <> max(stripe)),

-- After each run, and what the run moved.
totals AS (
    SELECT kept, number, account,
           debits_pending AS debits_pending_moved, debits_posted AS debits_posted_moved,
           credits_pending AS credits_pending_moved, credits_posted AS credits_posted_moved,
           (kept).debits_pending::numeric AS debits_pending,
           (kept).debits_posted::numeric AS debits_posted,
           (kept).credits_pending::numeric AS credits_pending,
           (kept).credits_posted::numeric AS credits_posted
    FROM runs
    WHERE NOT EXISTS (SELECT FROM striped WHERE striped.account = runs.account)
    UNION ALL
    SELECT kept, runs.number, account, debits_pending, debits_posted, credits_pending, credits_posted,
           sum(debits_pending) OVER history, sum(debits_posted) OVER history,
           sum(credits_pending) OVER history, sum(credits_posted) OVER history
    FROM runs
    LEFT JOIN ledger.flushes f ON f.number = runs.number >> 20
    WHERE EXISTS (SELECT FROM striped WHERE striped.account = runs.account)
    WINDOW history AS (PARTITION BY account ORDER BY f.time, f.worker, runs.number)),

-- What its debits and credits could have been in between: all that raised them first, and all
-- that lowered them last, or the other way round.
between_ AS (
    SELECT t.*, a.id AS account_id, a.flags,
           (t.kept).earlier_transfers IS NOT NULL AND (
               t.debits_pending - t.debits_pending_moved + gross.debits_lowered < 0
               OR t.credits_pending - t.credits_pending_moved + gross.credits_lowered < 0
               OR gross.debits_most > 9223372036854775807
               OR gross.credits_most > 9223372036854775807
               OR ('debits_must_not_exceed_credits' = ANY (a.flags)
                   AND gross.debits_most > t.credits_posted - t.credits_posted_moved)
               OR ('credits_must_not_exceed_debits' = ANY (a.flags)
                   AND gross.credits_most > t.debits_posted - t.debits_posted_moved)) AS is_open
    FROM totals t
    LEFT JOIN ledger.accounts a ON a.number = t.account
    CROSS JOIN LATERAL (
        SELECT coalesce(sum(least(- pending_amount, 0)) FILTER (WHERE is_debit), 0) AS debits_lowered,
               coalesce(sum(least(pending_amount, 0)) FILTER (WHERE NOT is_debit), 0) AS credits_lowered,
               t.debits_pending - t.debits_pending_moved + t.debits_posted - t.debits_posted_moved
                   + coalesce(sum(greatest(- pending_amount::numeric, 0) + greatest(- amount::numeric, 0))
                              FILTER (WHERE is_debit), 0) AS debits_most,
               t.credits_pending - t.credits_pending_moved + t.credits_posted - t.credits_posted_moved
                   + coalesce(sum(greatest(pending_amount::numeric, 0) + greatest(amount::numeric, 0))
                              FILTER (WHERE NOT is_debit), 0) AS credits_most
        FROM ledger.legs_of(t.kept)) gross),

judged AS (
    SELECT account_id, flags, number, (kept).transfer_id,
           debits_pending, debits_posted, credits_pending, credits_posted, 'runs' AS what
    FROM between_
    UNION ALL
    SELECT b.account_id, b.flags, l.number, l.transfer_id,
           b.debits_pending - (b.kept).debits_pending + l.debits_pending,
           b.debits_posted - (b.kept).debits_posted + l.debits_posted,
           b.credits_pending - (b.kept).credits_pending + l.credits_pending,
           b.credits_posted - (b.kept).credits_posted + l.credits_posted, 'postings within runs'
    FROM between_ b
    CROSS JOIN LATERAL ledger.legs_of(b.kept) l
    WHERE b.is_open AND l.number < b.number)

SELECT t.what,
       CASE
           WHEN least(t.debits_pending, t.debits_posted, t.credits_pending, t.credits_posted) < 0
               THEN 'after it a counter of the account is negative'
           WHEN t.debits_pending + t.debits_posted > 9223372036854775807
               THEN 'after it the debits of the account are beyond 2^63-1'
           WHEN t.credits_pending + t.credits_posted > 9223372036854775807
               THEN 'after it the credits of the account are beyond 2^63-1'
           WHEN 'debits_must_not_exceed_credits' = ANY (t.flags)
                AND t.debits_pending + t.debits_posted > t.credits_posted
               THEN 'after it the debits of the account exceed its credits'
           WHEN 'credits_must_not_exceed_debits' = ANY (t.flags)
                AND t.credits_pending + t.credits_posted > t.debits_posted
               THEN 'after it the credits of the account exceed its debits'
       END AS fault,
       t.number AS place,
       jsonb_build_object(
           'account_id', t.account_id, 'flags', t.flags, 'transfer_id', t.transfer_id,
           'debits_pending', t.debits_pending, 'debits_posted', t.debits_posted,
           'credits_pending', t.credits_pending, 'credits_posted', t.credits_posted) AS offender
FROM judged t
