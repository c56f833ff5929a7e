-- The signals of flows, in the order in which they came.
SELECT flow, name, event, message_id, number
FROM flows.inbox WHERE flow = ANY ($1::uuid[]) AND name NOT LIKE ':%' ORDER BY number
