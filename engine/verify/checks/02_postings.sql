-- Every created transfer has exactly its postings, and there are no others.
-- Counts: transfers
--
-- Two postings in the transfer's own flush, one on each account; a hold that expired has two
-- more, in the flush that ended it. What each must be follows from the transfer alone:
--
--                    amount     pending amount      (credit leg; the debit leg is the opposite)
--     plain          its own    0
--     pending        0          its own
--     post           its own    - the whole hold
--     void           0          - the whole hold
--     expiry         0          - the whole hold    (under the id of the hold)
WITH created AS (
    SELECT s.id, s.number >> 20 AS flush, s.debit_account, s.credit_account, s.amount,
           CASE WHEN s.flags & 10 <> 0 THEN 0 ELSE s.amount END AS moved,
           CASE WHEN s.flags & 2 <> 0 THEN s.amount
                WHEN s.flags & 12 <> 0 THEN - hold.amount
                ELSE 0 END AS held,
           expiry.number >> 20 AS expired_in
    FROM ledger.spent s
    LEFT JOIN (SELECT id, amount FROM ledger.spent WHERE outcome = 0 AND flags & 2 <> 0) AS hold
           ON s.flags & 12 <> 0 AND hold.id = s.pending_id
    LEFT JOIN ledger.resolutions expiry ON expiry.hold_id = s.id AND expiry.status = 'expired'
    WHERE s.outcome = 0),

-- Which leg a posting is: 1 the debit, 2 the credit, 4 and 8 those of an expiry, 0 none of them.
legs AS (
    SELECT coalesce(c.id, p.transfer_id) AS id, p.number,
           c.id IS NOT NULL AS created, c.expired_in IS NOT NULL AS expired,
           CASE
               WHEN p.number >> 20 = c.flush THEN CASE
                   WHEN p.stripe >> 10 = c.debit_account AND p.is_debit IS NOT FALSE
                        AND p.amount = - c.moved AND p.pending_amount = - c.held THEN 1
                   WHEN p.stripe >> 10 = c.credit_account AND p.is_debit IS NOT TRUE
                        AND p.amount = c.moved AND p.pending_amount = c.held THEN 2
                   ELSE 0 END
               WHEN p.number >> 20 = c.expired_in THEN CASE
                   WHEN p.stripe >> 10 = c.debit_account AND p.is_debit IS NOT FALSE
                        AND p.amount = 0 AND p.pending_amount = c.amount THEN 4
                   WHEN p.stripe >> 10 = c.credit_account AND p.is_debit IS NOT TRUE
                        AND p.amount = 0 AND p.pending_amount = - c.amount THEN 8
                   ELSE 0 END
               ELSE 0
           END AS leg
    FROM created c
    FULL JOIN ledger.legs p ON p.transfer_id = c.id),

transfers AS (
    SELECT id, bool_or(created) AS created, count(number) AS postings, min(number) AS place,
           bit_or(leg) AS legs,
           CASE WHEN bool_or(expired) THEN 4 ELSE 2 END AS postings_wanted,
           CASE WHEN bool_or(expired) THEN 15 ELSE 3 END AS legs_wanted
    FROM legs
    GROUP BY id)

SELECT 'transfers' AS what,
       CASE
           WHEN NOT created THEN 'it has postings but was not created'
           WHEN postings <> postings_wanted THEN 'it has more or fewer postings than it must'
           WHEN legs <> legs_wanted THEN 'a posting has another account, side, amount or flush than it must'
       END AS fault,
       place,
       jsonb_build_object('transfer_id', id, 'postings', postings,
                          'postings_wanted', postings_wanted) AS offender
FROM transfers
