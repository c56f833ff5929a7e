-- The versions of each stripe run from 1 without gaps, in the order in which they were written.
-- Counts: stripes, postings
--
-- Where every version above 1 has the one before it, and there are no more postings than the
-- highest version says, each version is there once.
SELECT 'stripes' AS what,
       CASE
           WHEN lowest < 1 THEN 'its versions do not begin with 1'
           WHEN postings > highest THEN 'a version stands twice'
       END AS fault,
       NULL::bigint AS place,
       jsonb_build_object('account_id', a.id, 'shard', stripe & 1023, 'postings', postings,
                          'highest_version', highest) AS offender
FROM (SELECT stripe, count(*) AS postings, min(version) AS lowest, max(version) AS highest
      FROM ledger.posted
      GROUP BY stripe) AS stripes
LEFT JOIN ledger.accounts a ON a.number = stripe >> 10

UNION ALL

SELECT 'postings',
       CASE
           WHEN p.version > 1 AND before.version IS NULL THEN 'the version before it is missing'
           WHEN p.number <= before.number THEN 'it was written before the version it builds on'
           WHEN p.number >> 20 <> before.number >> 20 AND f.time <= f_before.time
               THEN 'its flush is not later than that of the version it builds on'
       END,
       p.number,
       jsonb_build_object('account_id', a.id, 'shard', p.stripe & 1023, 'version', p.version,
                          'transfer_id', p.transfer_id)
FROM ledger.posted p
LEFT JOIN ledger.posted before ON before.stripe = p.stripe AND before.version = p.version - 1
LEFT JOIN ledger.flushes f ON f.number = p.number >> 20
LEFT JOIN ledger.flushes f_before ON f_before.number = before.number >> 20
LEFT JOIN ledger.accounts a ON a.number = p.stripe >> 10
