-- A worker without a lease is not dead where it says what it waits for.

ALTER TABLE ledger.heartbeats ADD COLUMN waits_for text;
ALTER TABLE ledger.heartbeats ADD COLUMN waits_since timestamptz;
ALTER TABLE ledger.heartbeats ADD COLUMN waits_until timestamptz;
COMMENT ON COLUMN ledger.heartbeats.waits_for IS
    'Why the worker cannot work, as it said last: it lives, holds no lease, and goes on by itself';
COMMENT ON COLUMN ledger.heartbeats.waits_until IS
    'Unless it says so again by then, it waits no more: it works, or it is dead';
