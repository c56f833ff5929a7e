-- How far each shard's stream is decided.
SELECT o.shard::integer AS shard, coalesce(p.ms, 0) AS ms, coalesce(p.seq, 0) AS seq,
       coalesce(p.generation, 0) AS generation
FROM ledger.owners o
LEFT JOIN (SELECT DISTINCT ON (shard) * FROM ledger.positions ORDER BY shard, flush DESC) AS p
       ON p.shard = o.shard
ORDER BY o.shard
