-- What time it is by Postgres.
SELECT clock_timestamp() AS now
