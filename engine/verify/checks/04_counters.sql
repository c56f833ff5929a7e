-- The four counters of every posting are those of the version before it, moved by this posting.
-- Counts: postings
--
-- The debit leg of a transfer moves the debits alone, the credit leg the credits: posted by
-- the amount, pending by the pending amount, whether it holds, posts, voids or expires. A sign
-- alone does not tell the leg (a hold's debit leg and the release of its credit leg are both
-- negative), so the transfer is asked. A posting that is no leg of its transfer, or whose
-- version before it is missing, is named by another check.
WITH steps AS (
    SELECT p.number, p.stripe, p.version, p.transfer_id, p.amount, p.pending_amount,
           CASE p.stripe >> 10
               WHEN t.debit_account THEN 'debit'
               WHEN t.credit_account THEN 'credit' END AS leg,
           p.version > 1 AND before.version IS NULL AS unknown,
           p.debits_pending, p.debits_posted, p.credits_pending, p.credits_posted,
           coalesce(before.debits_pending, 0) AS debits_pending_before,
           coalesce(before.debits_posted, 0) AS debits_posted_before,
           coalesce(before.credits_pending, 0) AS credits_pending_before,
           coalesce(before.credits_posted, 0) AS credits_posted_before
    FROM ledger.posted p
    LEFT JOIN ledger.posted before ON before.stripe = p.stripe AND before.version = p.version - 1
    LEFT JOIN ledger.spent t ON t.id = p.transfer_id AND t.outcome = 0)

SELECT 'postings' AS what,
       CASE
           WHEN unknown THEN NULL
           WHEN leg = 'debit' AND (
               -- Debits grow by what the balance shrinks by.
               debits_posted_before - debits_posted <> amount
               OR debits_pending_before - debits_pending <> pending_amount
               OR credits_posted <> credits_posted_before
               OR credits_pending <> credits_pending_before)
               THEN 'as a debit it does not make its counters of those before it'
           WHEN leg = 'credit' AND (
               credits_posted - credits_posted_before <> amount
               OR credits_pending - credits_pending_before <> pending_amount
               OR debits_posted <> debits_posted_before
               OR debits_pending <> debits_pending_before)
               THEN 'as a credit it does not make its counters of those before it'
       END AS fault,
       steps.number AS place,
       jsonb_build_object(
           'account_id', a.id, 'shard', stripe & 1023, 'version', version,
           'transfer_id', transfer_id, 'amount', amount, 'pending_amount', pending_amount,
           'counters', jsonb_build_object(
               'debits_pending', debits_pending, 'debits_posted', debits_posted,
               'credits_pending', credits_pending, 'credits_posted', credits_posted),
           'counters_before', jsonb_build_object(
               'debits_pending', debits_pending_before, 'debits_posted', debits_posted_before,
               'credits_pending', credits_pending_before, 'credits_posted', credits_posted_before)
       ) AS offender
FROM steps
LEFT JOIN ledger.accounts a ON a.number = stripe >> 10
