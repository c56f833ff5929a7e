-- What journals of flows say of money the ledger says too, and no ended flow has an open hold.
-- Counts: money steps, holds, foreign transfers
--
-- A step done as created has every transfer that it asked for; one done as declined or failed has none,
-- and a refusal that spent its id, so that none can come later. A void that was not needed (its hold was
-- voided or expired before) has a refusal too. What a person resolved is not judged. A transfer with a
-- flow's id and an id that no journal names is foreign: counted, no fault.
WITH asked AS (
    SELECT s.flow, s.seq, s.step, s.request, s.state, s.event, s.detail, s.number,
           d.source -> 'steps' -> s.step::integer ->> 'kind' AS kind
    FROM flows.steps s
    JOIN flows.flows f ON f.id = s.flow
    JOIN flows.definitions d ON d.definition = f.definition),

money AS (
    SELECT a.*, max(CASE WHEN a.state = 'asked' THEN a.seq END)
                OVER (PARTITION BY a.flow, a.step ORDER BY a.seq) AS asked_seq
    FROM asked a
    WHERE a.kind IN ('hold', 'post', 'void', 'move', 'chain', 'reverse')),

legs AS (
    SELECT m.flow, m.seq, ledger.uuid_at(m.request, leg * 128) AS id
    FROM money m CROSS JOIN LATERAL generate_series(0, length(m.request) / 128 - 1) AS leg
    WHERE m.state = 'asked'),

found AS (
    SELECT l.flow, l.seq, count(*) AS legs, count(*) FILTER (WHERE s.outcome = 0) AS created,
           count(*) FILTER (WHERE s.outcome <> 0) AS refused
    FROM legs l LEFT JOIN ledger.spent s ON s.id = l.id
    GROUP BY l.flow, l.seq)

SELECT 'money steps' AS what,
       CASE
           WHEN m.detail ? 'resolved' THEN NULL
           WHEN m.event IN ('created', 'done') AND f.created < f.legs
                AND NOT (m.kind = 'void' AND m.detail ? 'reason')
               THEN 'it is done, and the ledger does not have all its transfers'
           WHEN m.event IN ('declined', 'failed') AND f.created > 0
               THEN 'it is declined, and the ledger has created a transfer of it'
           WHEN m.event IN ('declined', 'failed') AND f.refused = 0
               THEN 'it is declined, and its ids are free'
       END AS fault,
       m.number AS place,
       jsonb_build_object('flow', m.flow, 'seq', m.seq, 'event', m.event, 'legs', f.legs,
                          'created', f.created) AS offender
FROM money m
JOIN found f ON f.flow = m.flow AND f.seq = m.asked_seq
WHERE m.state = 'done' AND m.event IN ('created', 'done', 'declined', 'failed')

UNION ALL

SELECT 'holds',
       CASE WHEN e.flow IS NOT NULL AND r.hold_id IS NULL AND t.expires_at IS NULL
            THEN 'its flow has ended and it is open' END,
       t.number,
       jsonb_build_object('hold', t.id, 'flow', l.flow)
FROM (SELECT DISTINCT flow, id FROM legs) l
JOIN ledger.spent t ON t.id = l.id AND t.outcome = 0 AND t.flags & 2 <> 0
LEFT JOIN flows.steps e ON e.flow = l.flow AND e.state = 'ended'
LEFT JOIN ledger.resolutions r ON r.hold_id = t.id

UNION ALL

SELECT 'foreign transfers', NULL, t.number, jsonb_build_object('transfer', t.id)
FROM ledger.spent t
JOIN flows.flows f ON f.id = t.user_data_128
LEFT JOIN legs l ON l.id = t.id
WHERE t.outcome = 0 AND l.id IS NULL
