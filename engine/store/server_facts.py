"""What Postgres says of itself, of workers and of transactions, as the doctor asks it."""

import msgspec


class ServerFacts(msgspec.Struct, frozen=True):
    """Postgres and the ledger in it; what this role may not see is None."""

    version: str
    version_major: int
    clock: float
    """Seconds since 1970."""
    is_standby: bool
    fsync: str
    full_page_writes: str
    synchronous_commit: str | None
    """As the server is set; every connection of ours sets its own."""
    synchronous_standbys: str
    synchronous_standbys_there: int
    autovacuum: str
    freeze_age_max: int
    transaction_age: int
    """Of the oldest transaction id, in transactions."""
    connections_max: int
    connections: int
    data_directory: str | None
    database_bytes: int
    idle_slot_bytes: int
    """Of the log, kept for a replication slot that nobody reads."""
    migration: int
    flush_numbers: int
    newest_flush: int
    newest_flush_time: float
    account_numbers: int
    newest_account: int
    letters_open: int
    letter_newest: str | None
    pause_seconds: float
    """The longest that a shard stood still while it was moved, of the last 10 minutes."""
    verified_seconds_ago: float | None
    verified_passed: bool | None
    verified_failed: list[str] | None


class WorkerFacts(msgspec.Struct, frozen=True):
    """A worker that is alive, or that is dead and still owns shards."""

    worker: str
    host: str
    process: int
    drained: bool
    is_listed: bool
    """Whether it works on the shards that it was told, and no others."""
    alive: bool
    lease_seconds_left: float
    shards: int
    waits_for: str | None
    """What its connection waits for within Postgres, at this moment."""
    waits_seconds: float = 0.0
    """For how long the statement that waits has run."""
    commit_seconds: float = 0.0
    """The slowest commit lately, as it measured."""
    says: str | None = None
    """Why it cannot work, as it said a moment ago; it lives then, without a lease."""
    says_seconds: float = 0.0
    """Since when."""


class TransactionFacts(msgspec.Struct, frozen=True):
    """A transaction that is open for long, or that a worker waits for."""

    pid: int
    application: str
    state: str
    seconds: float
    blocks_seconds: float | None
    """For how long a worker has been waiting for it."""
    is_living_worker: bool
