INSERT INTO flows.definitions (name, version, hash, source, accounts)
VALUES ($1, $2, $3, $4::text::jsonb, $5::text::jsonb)
ON CONFLICT DO NOTHING
RETURNING definition
