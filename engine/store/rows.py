"""What goes into and comes out of the store: positions, dead letters, flushes."""

from collections.abc import Collection, Sequence
from typing import Literal

import msgspec

from engine.book.columns import Decision, Postings
from engine.ledger.nouns import Position
from engine.store.copy import Copy


class ShardProgress(msgspec.Struct, gc=False):
    """A shard of this worker: how far it got."""

    position: Position
    time: int
    """Of its newest flush; what is decided from now on is later."""
    resolved_until: int
    """No hold is open that was to lapse by then: at most `time`."""


class ExpiringHolds(msgspec.Struct, gc=False):
    """Open holds that lapse within a time, as many as were asked for."""

    holds: list[tuple[int, bytes]]
    """When each lapses, and its id; the earliest first."""
    complete_until: int
    """All that lapse up to then are among them."""

    def resolved_until(self, lapsing: Collection[bytes]) -> int:
        """Up to when none is left once these have lapsed."""
        taken = frozenset(lapsing)
        left = [expires_at for expires_at, hold_id in self.holds if hold_id not in taken]
        return min([self.complete_until, *(at - 1 for at in left)])


class OwnedShards(msgspec.Struct):
    """One snapshot of what a worker's book rests on."""

    sequence: int
    """The last number in its chain."""
    shards: dict[int, ShardProgress]
    number: int
    """For the worker's next flush: above that of everything written so far."""


class DeadLetter(msgspec.Struct, frozen=True):
    """An entry that cannot be read, with its bytes."""

    shard: int
    position: Position
    reason: str
    fields: Sequence[bytes]


class Flush(msgspec.Struct):
    """What is written in one transaction."""

    sequence: int
    """The next number in the worker's chain."""
    number: int
    """Unique over all workers, reserved before."""
    time: int
    decided: list[Decision]
    posted: Postings
    positions: dict[int, Position]
    resolved_until: dict[int, int]
    """Of the same shards: all their holds that lapse by then are resolved."""
    dead_letters: list[DeadLetter]
    kind: Literal["flush", "locked"] = "flush"
    digest: bytes | None = None
    """Of all that it writes, made beforehand too."""
    copies: list[tuple[str, Copy]] | None = None
    """Tables and rows as bytes, made beforehand while another flush was under way."""

    @property
    def has_assumptions(self) -> bool:
        """Whether it declines for want of what others may have brought since."""
        return any(len(decision.assumptions.numbers) for decision in self.decided)
