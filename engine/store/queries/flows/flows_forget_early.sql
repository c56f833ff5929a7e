WITH gone AS (DELETE FROM flows.early WHERE number = ANY ($1::bigint[]) RETURNING number)
DELETE FROM flows.inbox i USING gone WHERE i.number = gone.number
