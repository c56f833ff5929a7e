-- Ends of holds, with their places in their flush.
SELECT number >> 20 AS flush, number & 1048575 AS place, hold_id, transfer_id, status
FROM ledger.resolutions
WHERE number BETWEEN $1::bigint << 20 AND ($2::bigint << 20) + 1048575
ORDER BY number
