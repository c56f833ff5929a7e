-- Whether it takes shards by itself; who looks for shards is told.
WITH changed AS (
    UPDATE ledger.heartbeats SET drained = $2 WHERE worker = ANY ($1::uuid[]) RETURNING worker)
SELECT count(*), pg_notify('ledger_shards', '') FROM changed
