-- Every hold ends at most once, by what says so; an account is closed while its closing hold is open.
-- Counts: holds ended, posts and voids, accounts
--
-- A hold is posted or voided by a created transfer that names it, in the flush that ends it and
-- before it lapses; it expires when it has lapsed, not before. An account is closed while, and
-- only while, a hold that closes it is pending.
WITH holds AS (
    SELECT id, number, debit_account, credit_account, amount, flags, expires_at
    FROM ledger.spent
    WHERE outcome = 0 AND flags & 2 <> 0),

resolvers AS (
    SELECT id, number, debit_account, credit_account, amount, flags, pending_id
    FROM ledger.spent
    WHERE outcome = 0 AND flags & 12 <> 0),

closers AS (
    SELECT account, count(*) AS holds, min(id::text)::uuid AS hold_id
    FROM (SELECT id, debit_account AS account FROM holds WHERE flags & 64 <> 0
          UNION ALL
          SELECT id, credit_account FROM holds WHERE flags & 128 <> 0) AS closing
    WHERE NOT EXISTS (SELECT FROM ledger.resolutions r WHERE r.hold_id = closing.id)
    GROUP BY account)

SELECT 'holds ended' AS what,
       CASE
           WHEN hold.id IS NULL THEN 'there is no such hold'
           WHEN r.number >> 20 < hold.number >> 20 THEN 'it ended before it was made'
           WHEN r.status = 'expired' AND r.transfer_id IS NOT NULL
               THEN 'it expired and was posted or voided too'
           WHEN r.status = 'expired' AND (hold.expires_at > f.time) IS NOT FALSE
               THEN 'it was made to expire before its time'
           WHEN r.status = 'expired' THEN NULL
           WHEN t.id IS NULL THEN 'the transfer that ended it was not created'
           WHEN t.pending_id <> hold.id THEN 'the transfer that ended it names another hold'
           WHEN r.status <> CASE WHEN t.flags & 4 <> 0 THEN 'posted' ELSE 'voided' END
               THEN 'the transfer that ended it does not agree whether it was posted or voided'
           WHEN r.number >> 20 <> t.number >> 20 THEN 'it ended in another flush than its transfer'
           WHEN hold.expires_at <= f.time THEN 'it was posted or voided after it had lapsed'
           WHEN (t.debit_account, t.credit_account)
                IS DISTINCT FROM (hold.debit_account, hold.credit_account)
               THEN 'the transfer that ended it is between other accounts'
           WHEN t.amount > hold.amount OR (r.status = 'voided' AND t.amount <> hold.amount)
               THEN 'more or less was posted or voided than was held'
       END AS fault,
       r.number AS place,
       jsonb_build_object('hold_id', r.hold_id, 'transfer_id', r.transfer_id, 'status', r.status,
                          'expires_at', hold.expires_at, 'ended_at', f.time) AS offender
FROM ledger.resolutions r
LEFT JOIN holds hold ON hold.id = r.hold_id
LEFT JOIN resolvers t ON t.id = r.transfer_id
LEFT JOIN ledger.flushes f ON f.number = r.number >> 20

UNION ALL

SELECT 'holds ended twice', 'it ended more than once', place,
       jsonb_build_object('hold_id', hold_id, 'times', times)
FROM (SELECT hold_id, count(*) AS times, min(number) AS place
      FROM ledger.resolutions
      GROUP BY hold_id
      HAVING count(*) > 1) AS twice

UNION ALL

SELECT 'posts and voids',
       CASE WHEN r.hold_id IS NULL THEN 'it was created but did not end its hold' END,
       t.number,
       jsonb_build_object('transfer_id', t.id, 'hold_id', t.pending_id)
FROM resolvers t
LEFT JOIN ledger.resolutions r ON r.hold_id = t.pending_id AND r.transfer_id = t.id

UNION ALL

SELECT 'accounts',
       CASE
           WHEN closers.holds > 1 THEN 'more than one pending hold closes it'
           WHEN a.closed AND closers.holds IS NULL THEN 'it is closed but no pending hold closes it'
           WHEN NOT a.closed AND closers.holds = 1 THEN 'a pending hold closes it but it is open'
       END,
       NULL,
       jsonb_build_object('account_id', a.id, 'closed', a.closed, 'hold_id', closers.hold_id)
FROM ledger.accounts a
LEFT JOIN closers ON closers.account = a.number
