"""What can be set. Every maximum has a name; every duration its unit."""

import msgspec

from engine.ledger.nouns import BATCH_TRANSFERS_MAX


class WorkerSettings(msgspec.Struct, frozen=True):
    """How a worker works."""

    lease_seconds: float = 5.0
    """For how long after its last heartbeat a worker's shards are not taken from it."""
    flush_transfers_max: int = 5 * BATCH_TRANSFERS_MAX
    """A flush is closed when it holds as many. Measured: 329,000 transfers/s with 20,000, 356,000
    with this; longer runs are fewer entries in the index of postings."""
    inbox_transfers_max: int = 2 * flush_transfers_max
    """No more is read while so many wait to be decided."""
    accounts_max: int = 2_000_000
    """Accounts kept in memory; beyond it those loaded first are forgotten."""
    block_ms: int = 500
    """How long a read waits for entries before it looks around."""
    claim_seconds: float = 0.25
    """How often a worker tries for shards that are not its own yet."""
    conflicts_max: int = 50
    """Conflicts in a row, without progress, that are taken for a defect."""
    backoff_seconds_max: float = 1.0
    """Longest wait between attempts to reach a server that is away."""
    horizon_seconds: int = 60
    """Holds that lapse within it are watched in memory."""
