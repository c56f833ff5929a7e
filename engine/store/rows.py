"""What goes into and comes out of the store: positions, dead letters, flushes."""

from collections.abc import Collection, Sequence
from typing import Literal, NamedTuple

import msgspec

from engine.book.columns import Decision, Postings
from engine.ledger.freezes import FreezeMark
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
    freezes: FreezeMark
    written: int
    """The last number in its chain that no freeze or thaw took: what the book rests on."""


class OwnershipChange(msgspec.Struct):
    """What a worker owns after a change, and the number that the change took in its chain."""

    sequence: int
    owned: dict[int, ShardProgress]
    freezes: FreezeMark
    """What is frozen, as of the same moment."""
    written: int
    """The last number before it that no freeze or thaw took."""


class ShardLoad(NamedTuple):
    """What its owner decided of a shard, between two heartbeats."""

    shard: int
    transfers_per_second: float
    answer_seconds: float
    """The slowest answer, from when Redis took the entry; 0 where there was none."""


class DeadLetter(msgspec.Struct, frozen=True):
    """An entry that cannot be read, with its bytes."""

    shard: int
    position: Position
    reason: str
    fields: Sequence[bytes]


class Waiter(msgspec.Struct, gc=False):
    """An entry that waits for a thaw, without what is in it."""

    shard: int
    position: Position
    original: Position | None
    """Where it is a copy of another entry that waits: that one's position."""
    freeze: int
    """The freeze that it waits for: at first the one that it met first."""
    flush: int
    """Number of the flush that wrote it; 0 before."""
    ids: list[bytes]
    """Of its transfers; of a copy none."""
    size: int
    """Bytes of its fields; of a copy, without those of its transfers."""
    digest: bytes
    """Of its transfers as they came."""
    fields: Sequence[bytes] = ()
    """As they are written; not kept once they are."""

    @property
    def order(self) -> tuple[Position, Position]:
        """Its place among those of its stream: a copy is decided right after its original."""
        return self.original or self.position, self.position

    @property
    def transfers(self) -> int:
        """How much of the room for transfers it takes."""
        return 1 if self.original is not None else max(1, len(self.ids))


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
    waiting: Sequence[Waiter] = ()
    """Entries that wait from now on."""
    released: Sequence[tuple[int, Position]] = ()
    """Entries that waited and are decided in it: shard and position."""
    kind: Literal["flush", "locked"] = "flush"
    digest: bytes | None = None
    """Of all that it writes, made beforehand too."""
    copies: list[tuple[str, Copy]] | None = None
    """Tables and rows as bytes, made beforehand while another flush was under way."""

    @property
    def has_assumptions(self) -> bool:
        """Whether it declines for want of what others may have brought since."""
        return any(len(decision.assumptions.numbers) for decision in self.decided)
