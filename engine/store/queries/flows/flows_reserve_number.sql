-- Above the number of everything that was written before.
SELECT nextval('flows.flush_numbers') AS number
