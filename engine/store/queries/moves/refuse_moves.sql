-- Moves that nobody began and that come to nothing.
UPDATE ledger.moves SET state = 'failed', why = $2, ended_at = clock_timestamp()
WHERE move = ANY ($1::bigint[]) AND state = 'asked'
