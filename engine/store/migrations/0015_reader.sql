-- What a reader is told of the engine at work, so that whoever watches needs no role that writes:
-- who lives, who owns what, what moves, what happened, and what became of an id.

-- ---------------------------------------------------------------- the engine at work

CREATE VIEW ledger.leases AS
SELECT h.worker, h.expires_at, h.drained, h.waits_for, h.waits_since, h.waits_until
FROM ledger.heartbeats h;
COMMENT ON VIEW ledger.leases IS 'Until when each worker keeps its shards, and what it waits for';

CREATE VIEW ledger.shard_owners AS SELECT o.shard, o.worker FROM ledger.owners o;
COMMENT ON VIEW ledger.shard_owners IS 'Who owns each shard; that of zeros is nobody';

CREATE VIEW ledger.shard_loads AS
SELECT l.shard, l.worker, l.transfers_per_second, l.measured_at FROM ledger.loads l;
COMMENT ON VIEW ledger.shard_loads IS 'What each shard''s owner decides, as it measured it';

CREATE VIEW ledger.shard_progress AS
SELECT p.shard, p.flush, p.generation, p.ms, p.seq, p.time FROM ledger.positions p;
COMMENT ON VIEW ledger.shard_progress IS 'How far each flush brought each shard in its stream';

CREATE VIEW ledger.shard_moves AS
SELECT m.move, m.plan, m.shard, m.source, m.target, m.asked_by, m.state, m.why, m.asked_at,
       m.ended_at, m.pause
FROM ledger.moves m;
COMMENT ON VIEW ledger.shard_moves IS 'Shards on their way from a worker to another, and those that went';

CREATE VIEW ledger.applied_plans AS
SELECT p.plan, p.applied_by, p.state, p.began_at, p.ended_at, p.why FROM ledger.plans p;
COMMENT ON VIEW ledger.applied_plans IS 'Plans that were applied, by whom, and how they ended';

CREATE VIEW ledger.owner_changes AS
SELECT o.shard, o.flush, o.former, o.worker, o.changed_at FROM ledger.ownership o;
COMMENT ON VIEW ledger.owner_changes IS 'Every change of owner of every shard';

-- Holds that wait for their end, and those past their time by so much that somebody should ask. By
-- the index on expires_at: between a shard's time, up to which all is resolved, and now.
CREATE FUNCTION ledger.hold_counts(overdue_seconds double precision)
RETURNS TABLE (overdue bigint, pending bigint)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
SELECT (SELECT count(*)
        FROM ledger.owners o
        LEFT JOIN LATERAL (SELECT p.time FROM ledger.positions p WHERE p.shard = o.shard
                           ORDER BY p.flush DESC LIMIT 1) p ON true
        JOIN ledger.spent s ON s.shard = o.shard
                           AND s.expires_at > coalesce(p.time, '-infinity')
                           AND s.expires_at <= clock_timestamp() - make_interval(secs => overdue_seconds)
        WHERE NOT EXISTS (SELECT FROM ledger.resolutions r WHERE r.hold_id = s.id)),
       -- No more are counted than one would read.
       (SELECT count(*)
        FROM (SELECT FROM ledger.owners o
              JOIN ledger.spent s ON s.shard = o.shard AND s.expires_at > clock_timestamp()
              WHERE NOT EXISTS (SELECT FROM ledger.resolutions r WHERE r.hold_id = s.id)
              LIMIT 100000) AS pending) $$;
COMMENT ON FUNCTION ledger.hold_counts IS
    'How many holds are past their time by so many seconds, and how many with a timeout wait (100,000: that many or more)';

-- ---------------------------------------------------------------- what happened

CREATE VIEW ledger.recorded_events AS
SELECT e.happened_at, e.event, e.worker, e.who, e.what, e.seconds FROM ledger.events e;
COMMENT ON VIEW ledger.recorded_events IS 'What happened and is in no other row';

CREATE VIEW ledger.letter_history AS
SELECT a.shard, a.generation, a.ms, a.seq, a.kind, a.acted_by, a.reason, a.entry, a.repaired, a.acted_at
FROM ledger.letter_acts a;
COMMENT ON VIEW ledger.letter_history IS 'What was done about dead letters, every act';

CREATE VIEW ledger.freeze_acts AS
SELECT f.freeze_number, f.act, f.kind, f.what, f.declines, f.acted_by, f.reason, f.time
FROM ledger.freezes f;
COMMENT ON VIEW ledger.freeze_acts IS 'Every freeze and thaw, by whom and why';

CREATE VIEW ledger.verify_runs AS
SELECT v.ended_at, v.seconds, v.passed, v.failed FROM ledger.verifications v;
COMMENT ON VIEW ledger.verify_runs IS 'When the ledger was checked, and what did not pass';

CREATE VIEW ledger.versions AS
SELECT m.number, m.name, m.applied_at FROM ledger.migrations m;
COMMENT ON VIEW ledger.versions IS 'The migrations of this ledger';

-- ---------------------------------------------------------------- one id

CREATE VIEW ledger.decisions AS
SELECT s.id, o.name AS outcome, s.shard::integer AS shard,
       coalesce(d.id, ledger.uuid_at(s.request, 16)) AS debit_account_id,
       coalesce(c.id, ledger.uuid_at(s.request, 32)) AS credit_account_id,
       trunc(coalesce(s.amount, ledger.little_endian(s.request, 48, 16))) AS amount,
       coalesce(d.ledger, ledger.little_endian(s.request, 112, 4)::bigint) AS ledger,
       coalesce(s.code, ledger.little_endian(s.request, 116, 2)::integer) AS code,
       ledger.transfer_flags(s.flags) AS flags,
       nullif(coalesce(s.pending_id, ledger.uuid_at(s.request, 64)),
              '00000000-0000-0000-0000-000000000000') AS pending_id,
       s.expires_at, f.worker, f.number AS flush, f.kind, f.time AS decided_at,
       p.ms || '-' || p.seq AS entry, b.ms || '-' || b.seq AS entry_after,
       r.status AS resolution, r.transfer_id AS resolved_by, rf.time AS resolved_at
FROM ledger.spent s
JOIN ledger.outcomes o ON o.number = s.outcome
JOIN ledger.flushes f ON f.number = s.number >> 20
LEFT JOIN ledger.accounts d ON d.number = s.debit_account
LEFT JOIN ledger.accounts c ON c.number = s.credit_account
LEFT JOIN ledger.resolutions r ON r.hold_id = s.id
LEFT JOIN ledger.flushes rf ON rf.number = r.number >> 20
LEFT JOIN LATERAL (SELECT p.ms, p.seq FROM ledger.positions p
                   WHERE p.shard = s.shard AND p.flush = f.number) p ON true
LEFT JOIN LATERAL (SELECT p.ms, p.seq FROM ledger.positions p
                   WHERE p.shard = s.shard AND p.flush < f.number ORDER BY p.flush DESC LIMIT 1) b ON true;
COMMENT ON VIEW ledger.decisions IS
    'Every id that is spent: as it was asked for or kept, its outcome, the flush that decided it, how far that came in the stream, and how its hold ended';

CREATE OR REPLACE VIEW ledger.waits AS
SELECT w.shard::integer AS shard, w.generation, w.ms, w.seq, w.ms || '-' || w.seq AS entry,
       w.freeze_number, f.kind, f.what, f.acted_by, f.reason, f.time AS frozen_at,
       w.ids, w.transfers, w.received_at, w.fields
FROM ledger.waiting w
JOIN ledger.freezes f USING (freeze_number)
WHERE NOT EXISTS (SELECT FROM ledger.released r
                  WHERE (r.shard, r.generation, r.ms, r.seq) = (w.shard, w.generation, w.ms, w.seq));
