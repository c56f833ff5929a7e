-- Where each sequence stands, and the newest number that it must have given: a copy of a database
-- may bring the rows without the sequences.
SELECT 'ledger.flush_numbers' AS sequence, 'ledger.flushes' AS source,
       coalesce(pg_sequence_last_value('ledger.flush_numbers'::regclass), 0) AS last,
       (SELECT coalesce(max(f.number), 0) FROM ledger.flushes f) AS newest
UNION ALL
SELECT 'ledger.accounts_number_seq', 'ledger.accounts',
       coalesce(pg_sequence_last_value('ledger.accounts_number_seq'::regclass), 0),
       (SELECT coalesce(max(a.number), 0) FROM ledger.accounts a WHERE a.number <= 4503599627370495)
UNION ALL
SELECT 'ledger.moves_move_seq', 'ledger.moves',
       coalesce(pg_sequence_last_value('ledger.moves_move_seq'::regclass), 0),
       (SELECT coalesce(max(m.move), 0) FROM ledger.moves m)
