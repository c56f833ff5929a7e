-- Create accounts in bulk; ids that are taken are left alone. Returns those created.
INSERT INTO ledger.accounts
    (id, ledger, code, flags, name, user_data_128, user_data_64, user_data_32)
SELECT id, ledger, code,
       array_remove(ARRAY[
           CASE WHEN flags & 2 <> 0 THEN 'debits_must_not_exceed_credits' END,
           CASE WHEN flags & 4 <> 0 THEN 'credits_must_not_exceed_debits' END], NULL),
       name, user_data_128, user_data_64, user_data_32
FROM unnest($1::uuid[], $2::bigint[], $3::integer[], $4::integer[], $5::text[],
            $6::uuid[], $7::numeric[], $8::bigint[])
     AS new(id, ledger, code, flags, name, user_data_128, user_data_64, user_data_32)
ON CONFLICT (id) DO NOTHING
RETURNING id
