-- Something happened that is in no other row.
INSERT INTO ledger.events (happened_at, event, worker, who, what, seconds)
VALUES (clock_timestamp() - make_interval(secs => $1), $2, $3, $4, $5, $6)
