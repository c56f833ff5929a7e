-- What happened since a time, the newest first: from the rows that record it, wherever they are.
WITH since AS MATERIALIZED (SELECT clock_timestamp() - make_interval(secs => $1) AS time),
-- Changes of owner, a row for each claim or release.
changes AS (
    SELECT o.flush, o.former, o.worker, min(o.changed_at) AS time, array_agg(o.shard::integer ORDER BY o.shard) AS shards
    FROM ledger.owner_changes o, since
    WHERE o.changed_at >= since.time AND o.former <> o.worker
    GROUP BY o.flush, o.former, o.worker),
-- Flushes have no index by time; their numbers are by time but for those under way together.
flushes AS MATERIALIZED (
    SELECT f.worker, f.kind, f.time
    FROM (SELECT f.worker, f.kind, f.time FROM ledger.flushes f ORDER BY f.number DESC LIMIT 100000) f, since
    WHERE f.kind IN ('locked', 'lent') AND f.time >= since.time),
happened AS (
    SELECT w.started_at AS time, 'worker_started' AS event,
           format('process %s on %s%s', w.process, w.host,
                  CASE WHEN w.shards IS NULL THEN '' ELSE ', for shards it was told' END) AS what,
           w.worker::text AS who, NULL::float8 AS seconds, NULL::integer[] AS shards
    FROM ledger.workers w, since
    WHERE w.started_at >= since.time AND w.host <> 'nobody'
    UNION ALL
    -- A lease that ended: of a dead worker others take the shards, or nobody has yet.
    SELECT h.expires_at,
           CASE WHEN lost.shards IS NULL THEN 'worker_stopped' ELSE 'worker_died' END,
           format('process %s on %s%s', w.process, w.host,
                  CASE WHEN lost.shards IS NULL THEN '' ELSE ': its lease ended while it had shards' END),
           w.worker::text, NULL, lost.shards
    FROM ledger.leases h JOIN ledger.workers w ON w.worker = h.worker
    CROSS JOIN since
    CROSS JOIN LATERAL (
        SELECT array_agg(s.shard ORDER BY s.shard) AS shards
        FROM (SELECT o.shard::integer AS shard FROM ledger.shard_owners o WHERE o.worker = h.worker
              UNION
              SELECT o.shard::integer FROM ledger.owner_changes o
              WHERE o.former = h.worker AND o.worker <> h.worker AND o.changed_at > h.expires_at) s) lost
    WHERE h.expires_at >= since.time AND h.expires_at <= clock_timestamp()
    UNION ALL
    SELECT c.time,
           CASE WHEN c.former = '00000000-0000-0000-0000-000000000000' THEN 'shards_claimed'
                WHEN c.worker = '00000000-0000-0000-0000-000000000000' THEN 'shards_released'
                ELSE 'shards_taken_over' END,
           CASE WHEN c.former = '00000000-0000-0000-0000-000000000000' THEN 'free shards'
                WHEN c.worker = '00000000-0000-0000-0000-000000000000' THEN 'given back'
                ELSE 'from worker ' || c.former END,
           CASE WHEN c.worker = '00000000-0000-0000-0000-000000000000' THEN c.former ELSE c.worker END::text,
           NULL, c.shards
    FROM changes c
    UNION ALL
    SELECT m.ended_at, 'shard_move_' || m.state,
           format('from %s to %s%s', m.source, m.target, coalesce(': ' || m.why, '')),
           m.asked_by, extract(epoch FROM m.pause)::float8, ARRAY[m.shard::integer]
    FROM ledger.shard_moves m, since WHERE m.ended_at >= since.time
    UNION ALL
    SELECT p.began_at, 'plan_began', 'plan ' || p.plan, p.applied_by, NULL, NULL
    FROM ledger.applied_plans p, since WHERE p.began_at >= since.time
    UNION ALL
    SELECT p.ended_at, 'plan_' || p.state, 'plan ' || p.plan || coalesce(': ' || p.why, ''), p.applied_by,
           extract(epoch FROM p.ended_at - p.began_at)::float8, NULL
    FROM ledger.applied_plans p, since WHERE p.ended_at >= since.time
    UNION ALL
    SELECT l.received_at, 'dead_letter', l.letter || ': ' || l.reason, NULL, NULL, ARRAY[l.shard]
    FROM ledger.letters l, since WHERE l.received_at >= since.time
    UNION ALL
    SELECT a.acted_at, 'letter_' || a.kind,
           a.shard || ':' || a.generation || ':' || a.ms || '-' || a.seq
           || coalesce(' as ' || a.entry, '') || CASE WHEN a.repaired THEN ', repaired' ELSE '' END
           || coalesce(': ' || a.reason, ''),
           a.acted_by, NULL, ARRAY[a.shard::integer]
    FROM ledger.letter_history a, since WHERE a.acted_at >= since.time
    UNION ALL
    SELECT max(f.time), CASE f.kind WHEN 'locked' THEN 'locked_flushes' ELSE 'chain_lent' END,
           format(CASE f.kind WHEN 'locked' THEN '%s flushes that locked other workers'
                              ELSE '%s times another wrote in its chain, and it decided again' END, count(*)),
           f.worker::text, NULL, NULL
    FROM flushes f GROUP BY f.worker, f.kind, date_trunc('minute', f.time)
    UNION ALL
    SELECT v.ended_at, CASE WHEN v.passed THEN 'verify_passed' ELSE 'verify_failed' END,
           CASE WHEN v.passed THEN 'all checks' ELSE array_to_string(v.failed, ', ') END, NULL, v.seconds, NULL
    FROM ledger.verify_runs v, since WHERE v.ended_at >= since.time
    UNION ALL
    SELECT m.applied_at, 'ledger_migrated', m.number || ' ' || m.name, NULL, NULL, NULL
    FROM ledger.versions m, since WHERE m.applied_at >= since.time
    UNION ALL
    SELECT z.time, CASE z.act WHEN 'freeze' THEN 'frozen' ELSE 'thawed' END,
           z.kind || ' ' || z.what || CASE WHEN z.declines THEN ', declining' ELSE '' END || ': ' || z.reason,
           z.acted_by, NULL, CASE z.kind WHEN 'shard' THEN ARRAY[z.what::integer] END
    FROM ledger.freeze_acts z, since WHERE z.time >= since.time
    UNION ALL
    SELECT e.happened_at, e.event, e.what, coalesce(e.worker::text, e.who), e.seconds, NULL
    FROM ledger.recorded_events e, since WHERE e.happened_at >= since.time)
SELECT to_char(h.time, 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS time, h.event, h.what, h.who, h.seconds, h.shards
FROM happened h
ORDER BY h.time DESC, h.event
LIMIT $2
