-- Entries that could not be read are kept; they are counted and are no failure.
-- Counts: dead letters
SELECT 'dead letters' AS what,
       NULL::text AS fault,
       NULL::bigint AS place,
       jsonb_build_object('shard', shard, 'entry', ms || '-' || seq, 'reason', reason) AS offender
FROM ledger.dead_letters
