-- Flows, and starts that were refused; ids that are free are left out.
SELECT id, definition, outcome, name, input, accounts::text AS accounts, started_by, depth
FROM flows.flows WHERE id = ANY ($1::uuid[])
