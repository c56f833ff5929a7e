-- Who may do what, of three roles that log in as nobody; those that do are members of them.
-- Whatever a later migration adds is decided here: a test holds each table and function to it.
--
-- The engine inserts and reads, and updates only what changes: column by column, since UPDATE or
-- DELETE of a whole table allows to lock it. It calls what it needs of sequences and sets none.

REVOKE ALL ON SCHEMA ledger, flows FROM PUBLIC, :engine, :creator, :reader;
REVOKE ALL ON ALL TABLES IN SCHEMA ledger, flows FROM PUBLIC, :engine, :creator, :reader;
REVOKE ALL ON ALL SEQUENCES IN SCHEMA ledger, flows FROM PUBLIC, :engine, :creator, :reader;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA ledger, flows FROM PUBLIC, :engine, :creator, :reader;

-- ---------------------------------------------------------------- the engine

GRANT USAGE ON SCHEMA ledger, flows TO :engine;
GRANT SELECT ON ALL TABLES IN SCHEMA ledger, flows TO :engine;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA ledger, flows TO :engine;
GRANT USAGE, SELECT ON SEQUENCE ledger.flush_numbers, flows.flush_numbers TO :engine;
GRANT SELECT ON SEQUENCE ledger.accounts_number_seq, ledger.moves_move_seq TO :engine;

GRANT INSERT ON
    ledger.dead_letters, ledger.events, ledger.flushes, ledger.freezes, ledger.heartbeats,
    ledger.letter_acts, ledger.loads, ledger.moves, ledger.ownership, ledger.plans, ledger.positions, ledger.posted,
    ledger.released, ledger.resolutions, ledger.spent, ledger.verifications, ledger.waiting,
    ledger.workers,
    flows.dead_letters, flows.definitions, flows.early, flows.flows, flows.flushes, flows.heartbeats,
    flows.inbox, flows.misfits, flows.open, flows.ownership, flows.reviews, flows.schedules, flows.steps,
    flows.workers
    TO :engine;

GRANT UPDATE (closed) ON ledger.accounts TO :engine;
GRANT UPDATE (worker) ON ledger.owners, flows.owners TO :engine;
GRANT UPDATE (expires_at, drained, waits_for, waits_since, waits_until) ON ledger.heartbeats TO :engine;
GRANT UPDATE (worker, transfers_per_second, answer_seconds, commit_seconds, measured_at) ON ledger.loads
    TO :engine;
GRANT UPDATE (state, why, paused_at, released_at, claimed_at, ready_at, ended_at) ON ledger.moves
    TO :engine;
GRANT UPDATE (state, why, ended_at) ON ledger.plans TO :engine;
GRANT UPDATE (expires_at) ON flows.heartbeats TO :engine;
GRANT UPDATE (wake_at) ON flows.open TO :engine;
GRANT UPDATE (nominal, next_at, last_nominal, last_outcome) ON flows.schedules TO :engine;
GRANT UPDATE (ended_at, decision, decided_by, reason) ON flows.reviews TO :engine;
-- These mean nothing: they allow to lock a row.
GRANT UPDATE (queue) ON ledger.workers, ledger.settings, flows.workers TO :engine;

-- ---------------------------------------------------------------- who creates accounts

GRANT USAGE ON SCHEMA ledger TO :creator;
GRANT INSERT (id, ledger, code, flags, name, user_data_128, user_data_64, user_data_32), SELECT (id)
    ON ledger.accounts TO :creator;
-- A column of `accounts` is made by it: whoever may insert some must call it. It reads nothing.
GRANT EXECUTE ON FUNCTION ledger.shard_of(uuid) TO PUBLIC;

-- ---------------------------------------------------------------- who reads

GRANT USAGE ON SCHEMA ledger, flows TO :reader;
GRANT SELECT ON
    ledger.accounts, ledger.balances, ledger.dead_letters, ledger.declined, ledger.flushes,
    ledger.frozen, ledger.holds, ledger.letters, ledger.outcomes, ledger.postings, ledger.settings, ledger.shards,
    ledger.transfers, ledger.waits, ledger.workers,
    ledger.applied_plans, ledger.decisions, ledger.freeze_acts, ledger.leases, ledger.letter_history,
    ledger.owner_changes, ledger.recorded_events, ledger.shard_loads, ledger.shard_moves,
    ledger.shard_owners, ledger.shard_progress, ledger.verify_runs, ledger.versions, flows.current, flows.unknown, flows.unmatched
    TO :reader;
GRANT EXECUTE ON FUNCTION
    ledger.flush_of_entry(integer, integer, bigint, bigint),
    ledger.history(uuid, integer, timestamptz, bigint), ledger.hold_counts(double precision),
    ledger.postings_of(uuid), ledger.why_declined(uuid),
    -- Those that views are made of; they read nothing.
    ledger.legs_of(ledger.posted), ledger.little_endian(bytea, integer, integer),
    ledger.saturated(numeric), ledger.transfer_flags(integer), ledger.unsigned(bigint),
    ledger.uuid_at(bytea, integer)
    TO :reader;
