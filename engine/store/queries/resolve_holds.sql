-- Ends of holds; the key refuses a second one.
INSERT INTO ledger.resolutions (hold_id, transfer_id, status, number)
SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::bigint[])
