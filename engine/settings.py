"""What can be set: every setting, and each default, once. A duration or size ends in its unit.

The commands and `engine.connect` read the same variables of the environment, by the functions
here and in `engine.addresses`.
"""

import os
from pathlib import Path
from typing import Final, Literal, TypeAlias

import msgspec

from engine.errors import ConfigurationError
from engine.ledger.nouns import BATCH_TRANSFERS_MAX

POSTGRES_VARIABLE: Final = "ENGINE_POSTGRES_DSN"
OWNER_VARIABLE: Final = "ENGINE_OWNER_DSN"
REDIS_VARIABLE: Final = "ENGINE_REDIS_URL"
DATA_VARIABLE: Final = "ENGINE_DATA"
PREFIX_VARIABLE: Final = "ENGINE_PREFIX"
HEADS_VARIABLE: Final = "ENGINE_LOG_HEADS"
"""Whether workers log the ends of their chains each minute: 1 for yes."""
LOG_LEVEL_VARIABLE: Final = "ENGINE_LOG_LEVEL"
TRACES_VARIABLE: Final = "ENGINE_TRACES"

DATA_DIRECTORY: Final = Path(".engine")
"""Where `engine up` keeps its data."""

PREFIX: Final = "engine"
"""Before the names of the streams."""

SHARD_COUNT: Final = 16
"""Of a new ledger."""

LOG_LEVELS: Final = ("debug", "info", "warning", "error")

WhenFull: TypeAlias = Literal["error", "wait"]


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


class ClientSettings(msgspec.Struct, frozen=True):
    """How a producer's client works."""

    timeout_seconds: float = 30.0
    """Longest wait for the outcome of what was sent, or for a look-up."""
    backlog_entries_max: int = 1000
    """Most entries that may wait in the stream of a shard."""
    when_full: WhenFull = "error"
    """With more, whether to raise BackpressureError at once, or to wait for room."""


def read_variable(name: str) -> str | None:
    """What a variable of the environment says; None where it is not set, or empty."""
    return os.environ.get(name) or None


def traced_share() -> float:
    """Which share of all flushes is traced, as the environment says; 0 where it says nothing.

    Raises:
        ConfigurationError: It is no number from 0 to 1.
    """
    given = read_variable(TRACES_VARIABLE)
    try:
        share = float(given or 0)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise ConfigurationError(
            f"{TRACES_VARIABLE} is {given!r}: give the share of flushes to trace, as 0.01"
        )
    return share


def stream_prefix(given: str | None = None) -> str:
    """Before the names of the streams: as given, as the environment says, or the default.

    Raises:
        ConfigurationError: It could not stand in the name of a stream.
    """
    prefix = given or read_variable(PREFIX_VARIABLE) or PREFIX
    if not prefix.isascii() or not prefix.isprintable() or set(prefix) & set("{} "):
        raise ConfigurationError(
            f"{prefix!r} cannot be the prefix of streams: give printable ASCII without braces and "
            f"spaces in {PREFIX_VARIABLE}"
        )
    return prefix


def data_directory(given: Path | None = None) -> Path:
    """The data directory of `engine up`: as given, as the environment says, or the default."""
    return given or Path(read_variable(DATA_VARIABLE) or DATA_DIRECTORY)
