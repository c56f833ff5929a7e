-- Ends of holds, with their places in their flush.
SELECT number >> 20 AS flush, number & 1048575 AS place, hold_id, transfer_id, status
FROM ledger.resolutions
WHERE number >= $1 << 20
ORDER BY number
