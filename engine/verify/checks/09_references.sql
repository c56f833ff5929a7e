-- Every account, worker and shard that a row names exists; the accounts of a transfer fit together.
-- Counts: accounts, transfers, postings, flushes, positions, shards
--
-- The fast path checks no foreign keys; the rules and this check do.
SELECT 'accounts' AS what,
       CASE
           WHEN a.shard <> ledger.shard_of(a.id) THEN 'its shard is not that of its id'
           WHEN a.number NOT BETWEEN 1 AND 4503599627370495
               THEN 'no worker can use it: its number is none that the ledger gives'
           WHEN a.flags NOT IN ('{}', '{debits_must_not_exceed_credits}', '{credits_must_not_exceed_debits}')
               THEN 'no worker can use it: its flags are none that an account has'
       END AS fault,
       NULL::bigint AS place,
       jsonb_build_object('account_id', a.id, 'shard', a.shard, 'number', a.number,
                          'flags', a.flags) AS offender
FROM ledger.accounts a

UNION ALL

SELECT 'accounts that are one', 'more than one account has its number', NULL,
       jsonb_build_object('account_id', id, 'number', number, 'times', times)
FROM (SELECT number, min(id::text) AS id, count(*) AS times
      FROM ledger.accounts
      GROUP BY number
      HAVING count(*) > 1) AS several

UNION ALL

SELECT 'transfers',
       CASE
           WHEN d.number IS NULL THEN 'its debit account does not exist'
           WHEN c.number IS NULL THEN 'its credit account does not exist'
           WHEN s.debit_account = s.credit_account THEN 'its accounts are the same'
           WHEN d.ledger <> c.ledger THEN 'its accounts are of different ledgers'
           WHEN s.shard NOT BETWEEN 0 AND (SELECT shard_count - 1 FROM ledger.settings)
               THEN 'its shard does not exist'
       END,
       s.number,
       jsonb_build_object('transfer_id', s.id, 'debit_account_number', s.debit_account,
                          'credit_account_number', s.credit_account, 'shard', s.shard)
FROM ledger.spent s
LEFT JOIN ledger.accounts d ON d.number = s.debit_account
LEFT JOIN ledger.accounts c ON c.number = s.credit_account
WHERE s.outcome = 0

UNION ALL

SELECT 'postings',
       CASE
           WHEN a.number IS NULL THEN 'its account does not exist'
           WHEN p.stripe & 1023 > (SELECT shard_count - 1 FROM ledger.settings)
               THEN 'its shard does not exist'
       END,
       p.number,
       jsonb_build_object('transfer_id', p.transfer_id, 'account_number', p.stripe >> 10,
                          'shard', p.stripe & 1023, 'version', p.version)
FROM ledger.posted p
LEFT JOIN ledger.accounts a ON a.number = p.stripe >> 10

UNION ALL

SELECT 'flushes',
       CASE WHEN w.worker IS NULL THEN 'its worker does not exist' END,
       f.number,
       jsonb_build_object('flush', f.number, 'worker', f.worker, 'sequence', f.sequence)
FROM ledger.flushes f
LEFT JOIN ledger.workers w ON w.worker = f.worker

UNION ALL

SELECT 'positions',
       CASE WHEN o.shard IS NULL THEN 'its shard does not exist' END,
       p.flush,
       jsonb_build_object('shard', p.shard, 'flush', p.flush)
FROM ledger.positions p
LEFT JOIN ledger.owners o ON o.shard = p.shard

UNION ALL

SELECT 'shards',
       CASE
           WHEN o.shard IS NULL THEN 'it has no owner, not even nobody'
           WHEN s.shard IS NULL THEN 'there is no such shard'
           WHEN w.worker IS NULL THEN 'its owner does not exist'
       END,
       NULL,
       jsonb_build_object('shard', coalesce(o.shard, s.shard), 'owner', o.worker)
FROM generate_series(0, (SELECT shard_count - 1 FROM ledger.settings)) AS s(shard)
FULL JOIN ledger.owners o ON o.shard = s.shard
LEFT JOIN ledger.workers w ON w.worker = o.worker
