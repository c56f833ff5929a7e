-- Every id is spent once, by a created transfer that is complete or by a refusal that spends ids.
-- Counts: created, declined
--
-- The ids are counted without their index, which could be what is damaged. Which refusals
-- spend an id is SPENDS_ID in engine/ledger/outcomes.py; a test holds the two lists equal.
SELECT CASE WHEN s.outcome = 0 THEN 'created' ELSE 'declined' END AS what,
       CASE
           WHEN o.number IS NULL THEN 'its outcome is none that there is'
           WHEN s.outcome <> 0 AND o.name NOT IN (
               'frozen', 'debit_account_not_found', 'credit_account_not_found',
               'pending_transfer_not_found',
               'debit_account_already_closed', 'credit_account_already_closed',
               'exceeds_credits', 'exceeds_debits')
               THEN 'its refusal is one that leaves the id free'
           WHEN s.outcome <> 0 AND (
               s.request IS NULL OR length(s.request) <> 128
               OR substring(s.request FROM 1 FOR 16) <> uuid_send(s.id))
               THEN 'the request that was declined is not kept'
           WHEN s.outcome <> 0 THEN NULL
           WHEN s.debit_account IS NULL OR s.credit_account IS NULL OR s.amount IS NULL
                OR s.code IS NULL OR s.amount < 0 OR s.code NOT BETWEEN 1 AND 65535
                OR s.flags NOT BETWEEN 0 AND 255
               THEN 'it was created but is not complete'
           WHEN (s.flags & 12 <> 0)
                <> (coalesce(s.pending_id, '00000000-0000-0000-0000-000000000000')
                    <> '00000000-0000-0000-0000-000000000000')
               THEN 'a post or void must name its hold, and nothing else may'
           WHEN s.timeout IS NOT NULL AND s.flags & 2 = 0
               THEN 'it has a timeout but is no hold'
           WHEN s.expires_at IS DISTINCT FROM f.time + s.timeout * interval '1 second'
               THEN 'it does not expire its timeout after it was created'
       END AS fault,
       s.number AS place,
       jsonb_build_object('transfer_id', s.id, 'outcome', coalesce(o.name, s.outcome::text),
                          'flags', ledger.transfer_flags(s.flags)) AS offender
FROM ledger.spent s
LEFT JOIN ledger.outcomes o ON o.number = s.outcome
LEFT JOIN ledger.flushes f ON f.number = s.number >> 20

UNION ALL

SELECT 'ids spent twice', 'it is spent more than once', place,
       jsonb_build_object('transfer_id', id, 'times', times)
FROM (SELECT id, count(*) AS times, min(number) AS place
      FROM ledger.spent
      GROUP BY id
      HAVING count(*) > 1) AS twice
