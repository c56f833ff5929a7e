-- Accounts as a worker writes them: the newest counters of the stripe that it writes, and the sums
-- over others, as far as it needs them.
--
-- Of an account whose home it owns ($2) it writes the home stripe and must know all others. Most
-- accounts have one other at most, so that the two highest stripes (`one`, `two`) are all there are;
-- only where there are more are all gone through, which costs several times that.
--
-- Of any other account it writes the stripe of its writing shard ($3; `one`), and of the others only
-- the home is looked at (`two`): by it alone it sees what is near the end of a counter, since all
-- stripes away from home stay small together. How many others credit the account makes no difference.
--
-- One whose number no stripe can be made of has none, and flags that are not ours are -1: who reads
-- it leaves it out. In the order of numbers, neighbours are probed one after the other.
SELECT a.id, a.number, a.shard, a.ledger, a.code,
       CASE a.flags WHEN '{}' THEN 0 WHEN '{debits_must_not_exceed_credits}' THEN 2
                    WHEN '{credits_must_not_exceed_debits}' THEN 4 ELSE -1 END AS flags,
       a.closed,
       coalesce(deep.version, CASE mine.stripe WHEN one.stripe THEN one.version WHEN two.stripe THEN two.version ELSE 0 END) AS version,
       coalesce(deep.own_debits_pending, CASE mine.stripe WHEN one.stripe THEN one.debits_pending WHEN two.stripe THEN two.debits_pending ELSE 0 END) AS own_debits_pending,
       coalesce(deep.own_debits_posted, CASE mine.stripe WHEN one.stripe THEN one.debits_posted WHEN two.stripe THEN two.debits_posted ELSE 0 END) AS own_debits_posted,
       coalesce(deep.own_credits_pending, CASE mine.stripe WHEN one.stripe THEN one.credits_pending WHEN two.stripe THEN two.credits_pending ELSE 0 END) AS own_credits_pending,
       coalesce(deep.own_credits_posted, CASE mine.stripe WHEN one.stripe THEN one.credits_posted WHEN two.stripe THEN two.credits_posted ELSE 0 END) AS own_credits_posted,
       coalesce(deep.debits_pending, ledger.added(CASE WHEN one.stripe <> mine.stripe THEN one.debits_pending ELSE 0 END,
                                                  CASE WHEN two.stripe <> mine.stripe THEN two.debits_pending ELSE 0 END)) AS debits_pending,
       coalesce(deep.debits_posted, ledger.added(CASE WHEN one.stripe <> mine.stripe THEN one.debits_posted ELSE 0 END,
                                                 CASE WHEN two.stripe <> mine.stripe THEN two.debits_posted ELSE 0 END)) AS debits_posted,
       coalesce(deep.credits_pending, ledger.added(CASE WHEN one.stripe <> mine.stripe THEN one.credits_pending ELSE 0 END,
                                                   CASE WHEN two.stripe <> mine.stripe THEN two.credits_pending ELSE 0 END)) AS credits_pending,
       coalesce(deep.credits_posted, ledger.added(CASE WHEN one.stripe <> mine.stripe THEN one.credits_posted ELSE 0 END,
                                                  CASE WHEN two.stripe <> mine.stripe THEN two.credits_posted ELSE 0 END)) AS credits_posted,
       CASE WHEN deep.version IS NOT NULL THEN deep.time
       ELSE greatest((SELECT f.time FROM ledger.flushes f
                      WHERE f.number = one.number >> 20 AND mine.is_home AND one.stripe <> mine.stripe),
                     (SELECT f.time FROM ledger.flushes f
                      WHERE f.number = two.number >> 20 AND mine.is_home AND two.stripe <> mine.stripe))
       END AS others_time
FROM (SELECT a.id, a.number, a.shard, a.ledger, a.code, a.flags, a.closed
      FROM unnest($1::uuid[]) AS wanted(id) JOIN ledger.accounts a ON a.id = wanted.id
      ORDER BY a.number) a
CROSS JOIN LATERAL (
    SELECT CASE WHEN a.number BETWEEN 1 AND 4503599627370495 THEN a.number * 1024 END AS base,
           a.shard = ANY ($2::integer[]) AS is_home OFFSET 0) account
CROSS JOIN LATERAL (
    SELECT account.is_home, account.base,
           account.base + CASE WHEN account.is_home THEN a.shard ELSE $3::integer END AS stripe) mine
LEFT JOIN LATERAL (
    SELECT p.stripe, p.number, p.version, p.debits_pending, p.debits_posted, p.credits_pending, p.credits_posted
    FROM ledger.posted p
    WHERE p.stripe >= CASE WHEN mine.is_home THEN mine.base ELSE mine.stripe END
      AND p.stripe <= CASE WHEN mine.is_home THEN mine.base + 1023 ELSE mine.stripe END AND p.run > 0
    ORDER BY p.stripe DESC, p.version - p.run DESC LIMIT 1) one ON true
LEFT JOIN LATERAL (
    SELECT p.stripe, p.number, p.version, p.debits_pending, p.debits_posted, p.credits_pending, p.credits_posted
    FROM ledger.posted p
    WHERE p.stripe >= CASE WHEN mine.is_home THEN mine.base ELSE mine.base + a.shard END
      AND p.stripe <= CASE WHEN mine.is_home THEN one.stripe - 1
                           WHEN a.shard <> $3::integer THEN mine.base + a.shard END AND p.run > 0
    ORDER BY p.stripe DESC, p.version - p.run DESC LIMIT 1) two ON true
CROSS JOIN LATERAL (
    SELECT mine.is_home AND EXISTS (
        SELECT FROM ledger.posted p
        WHERE p.stripe >= mine.base AND p.stripe < two.stripe AND p.run > 0) AS more OFFSET 0) beyond
LEFT JOIN LATERAL (
    SELECT coalesce(max(n.version) FILTER (WHERE n.stripe = mine.stripe), 0) AS version,
           coalesce(max(n.debits_pending) FILTER (WHERE n.stripe = mine.stripe), 0) AS own_debits_pending,
           coalesce(max(n.debits_posted) FILTER (WHERE n.stripe = mine.stripe), 0) AS own_debits_posted,
           coalesce(max(n.credits_pending) FILTER (WHERE n.stripe = mine.stripe), 0) AS own_credits_pending,
           coalesce(max(n.credits_posted) FILTER (WHERE n.stripe = mine.stripe), 0) AS own_credits_posted,
           ledger.saturated(sum(n.debits_pending) FILTER (WHERE n.stripe <> mine.stripe)) AS debits_pending,
           ledger.saturated(sum(n.debits_posted) FILTER (WHERE n.stripe <> mine.stripe)) AS debits_posted,
           ledger.saturated(sum(n.credits_pending) FILTER (WHERE n.stripe <> mine.stripe)) AS credits_pending,
           ledger.saturated(sum(n.credits_posted) FILTER (WHERE n.stripe <> mine.stripe)) AS credits_posted,
           (SELECT max(f.time) FROM ledger.newest(a.number) o JOIN ledger.flushes f ON f.number = o.number >> 20
            WHERE o.stripe <> mine.stripe) AS time
    FROM ledger.newest(a.number) n HAVING beyond.more) deep ON true
