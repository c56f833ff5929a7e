-- Nothing was created while it matched a freeze in force, and what waited was decided after it.
-- Counts: freezes, entries that waited
WITH freezes AS (
    SELECT f.freeze_number, f.kind, f.what, f.time, t.time AS thawed_at
    FROM ledger.freezes f LEFT JOIN ledger.freezes t ON t.thaws = f.freeze_number
    WHERE f.act = 'freeze'),

created AS (
    SELECT f.freeze_number, min(s.id::text) AS first, count(*) AS transfers
    FROM freezes f
    JOIN ledger.flushes fl ON fl.time > f.time AND fl.time < coalesce(f.thawed_at, 'infinity')
    JOIN ledger.spent s ON s.number >> 20 = fl.number
    JOIN ledger.accounts d ON d.number = s.debit_account
    JOIN ledger.accounts c ON c.number = s.credit_account
    WHERE s.outcome = 0
      AND CASE f.kind WHEN 'account' THEN f.what IN (d.id::text, c.id::text)
                      WHEN 'ledger' THEN f.what = d.ledger::text
                      WHEN 'code' THEN f.what = s.code::text
                      ELSE f.what = ledger.shard_of(d.id)::text END
    GROUP BY f.freeze_number)

SELECT 'freezes' AS what,
       CASE
           WHEN c.transfers > 0 THEN 'transfers that match it were created while it was in force'
           WHEN f.thawed_at <= f.time THEN 'its thaw is not after it'
       END AS fault,
       f.freeze_number AS place,
       jsonb_build_object('freeze', f.freeze_number, 'kind', f.kind, 'frozen', f.what, 'time', f.time,
                          'thawed_at', f.thawed_at, 'transfers', coalesce(c.transfers, 0),
                          'transfer', c.first) AS offender
FROM freezes f LEFT JOIN created c USING (freeze_number)

UNION ALL

SELECT 'entries that waited',
       CASE
           WHEN fl.kind IS NULL OR fl.kind NOT IN ('flush', 'locked') THEN 'no flush wrote it'
           WHEN w.flush < w.freeze_number THEN 'it began to wait before its freeze'
           WHEN r.flush IS NOT NULL AND r.flush <= w.flush THEN 'it was decided before it waited'
           WHEN r.flush IS NOT NULL AND (rf.kind IN ('flush', 'locked')) IS NOT TRUE
               THEN 'no flush decided it'
           WHEN w.original_ms IS NOT NULL AND o.ms IS NULL THEN 'it is a copy of nothing'
       END,
       w.flush,
       jsonb_build_object('shard', w.shard, 'entry', w.ms || '-' || w.seq, 'freeze', w.freeze_number,
                          'flush', w.flush, 'released', r.flush)
FROM ledger.waiting w
LEFT JOIN ledger.flushes fl ON fl.number = w.flush
LEFT JOIN ledger.released r USING (shard, generation, ms, seq)
LEFT JOIN ledger.flushes rf ON rf.number = r.flush
LEFT JOIN ledger.waiting o
       ON (o.shard, o.generation, o.ms, o.seq)
          = (w.shard, w.original_generation, w.original_ms, w.original_seq)
