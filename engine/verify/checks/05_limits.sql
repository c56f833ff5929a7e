-- Limits hold after every posting of every account, and no sum is negative or beyond 2^63-1.
-- Counts: postings
--
-- The account's history is that of all its stripes together, ordered by (time of the flush,
-- worker, number). Nearly all accounts have one stripe, whose counters are the account's: they
-- are read as they stand. Those of the others are summed: each step of one stripe moves the
-- account by what it moved the stripe. One stripe alone may be negative, their sum may not.
WITH striped AS (
    SELECT stripe >> 10 AS account
    FROM ledger.posted
    GROUP BY stripe >> 10
    HAVING min(stripe) <> max(stripe)),

moved AS (
    SELECT p.number, p.stripe >> 10 AS account, p.transfer_id, f.time, f.worker,
           p.debits_pending::numeric - lag(p.debits_pending, 1, 0::bigint) OVER stripe AS debits_pending,
           p.debits_posted::numeric - lag(p.debits_posted, 1, 0::bigint) OVER stripe AS debits_posted,
           p.credits_pending::numeric - lag(p.credits_pending, 1, 0::bigint) OVER stripe AS credits_pending,
           p.credits_posted::numeric - lag(p.credits_posted, 1, 0::bigint) OVER stripe AS credits_posted
    FROM ledger.posted p
    LEFT JOIN ledger.flushes f ON f.number = p.number >> 20
    WHERE EXISTS (SELECT FROM striped WHERE striped.account = p.stripe >> 10)
    WINDOW stripe AS (PARTITION BY p.stripe ORDER BY p.version)),

totals AS (
    SELECT number, stripe >> 10 AS account, transfer_id,
           debits_pending::numeric AS debits_pending, debits_posted::numeric AS debits_posted,
           credits_pending::numeric AS credits_pending, credits_posted::numeric AS credits_posted
    FROM ledger.posted
    WHERE NOT EXISTS (SELECT FROM striped WHERE striped.account = stripe >> 10)
    UNION ALL
    SELECT number, account, transfer_id,
           sum(debits_pending) OVER history, sum(debits_posted) OVER history,
           sum(credits_pending) OVER history, sum(credits_posted) OVER history
    FROM moved
    WINDOW history AS (PARTITION BY account ORDER BY time, worker, number))

SELECT 'postings' AS what,
       CASE
           WHEN least(t.debits_pending, t.debits_posted, t.credits_pending, t.credits_posted) < 0
               THEN 'after it a counter of the account is negative'
           WHEN t.debits_pending + t.debits_posted > 9223372036854775807
               THEN 'after it the debits of the account are beyond 2^63-1'
           WHEN t.credits_pending + t.credits_posted > 9223372036854775807
               THEN 'after it the credits of the account are beyond 2^63-1'
           WHEN 'debits_must_not_exceed_credits' = ANY (a.flags)
                AND t.debits_pending + t.debits_posted > t.credits_posted
               THEN 'after it the debits of the account exceed its credits'
           WHEN 'credits_must_not_exceed_debits' = ANY (a.flags)
                AND t.credits_pending + t.credits_posted > t.debits_posted
               THEN 'after it the credits of the account exceed its debits'
       END AS fault,
       t.number AS place,
       jsonb_build_object(
           'account_id', a.id, 'flags', a.flags, 'transfer_id', t.transfer_id,
           'debits_pending', t.debits_pending, 'debits_posted', t.debits_posted,
           'credits_pending', t.credits_pending, 'credits_posted', t.credits_posted) AS offender
FROM totals t
LEFT JOIN ledger.accounts a ON a.number = t.account
