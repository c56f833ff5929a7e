UPDATE flows.reviews r
SET ended_at = $6, decision = e.decision, decided_by = nullif(e.decided_by, ''),
    reason = nullif(e.reason, '')
FROM unnest($1::uuid[], $2::smallint[], $3::text[], $4::text[], $5::text[])
     AS e(flow, seq, decision, decided_by, reason)
WHERE r.flow = e.flow AND r.seq = e.seq AND r.ended_at IS NULL
