"""Who sits where: a shard with its owner, and a worker that is alive."""

from typing import Final
from uuid import UUID

import msgspec

from engine.ledger.nouns import ID_ZERO, Position

NOBODY: Final = str(UUID(bytes=ID_ZERO))
"""The worker of zeros, which has what nobody has."""


class ShardSeat(msgspec.Struct, frozen=True):
    """A shard and its owner; `worker` is the one of zeros where nobody owns it."""

    shard: int
    worker: str
    alive: bool
    transfers_per_second: float
    generation: int
    ms: int
    seq: int

    @property
    def position(self) -> Position:
        """How far it is decided."""
        return Position(self.generation, self.ms, self.seq)


class LiveSeat(msgspec.Struct, frozen=True):
    """A worker that is alive."""

    worker: str
    host: str
    process: int
    shards: list[int] | None
    """Those it was told to work on; None where it takes its share."""
    drained: bool
