"""What goes into and comes out of the store: positions, dead letters, flushes."""

from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from engine.book.columns import Decision, Postings
from engine.ledger.nouns import Position
from engine.store.copy import Copy


class ShardProgress(msgspec.Struct, gc=False):
    """A shard of this worker: how far it got and the time up to which it is decided."""

    position: Position
    time: int


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


def dead_letter_columns(letters: Sequence[DeadLetter]) -> list[list[Any]]:
    """What follows the statement that inserts them: columns, and all fields in one of their own."""
    fields = [(place, field) for place, letter in enumerate(letters, 1) for field in letter.fields]
    return [
        [letter.shard for letter in letters],
        [letter.position.generation for letter in letters],
        [letter.position.ms for letter in letters],
        [letter.position.seq for letter in letters],
        [letter.reason for letter in letters],
        [place for place, _ in fields],
        [field for _, field in fields],
    ]


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
    dead_letters: list[DeadLetter]
    kind: Literal["flush", "locked"] = "flush"
    copies: list[tuple[str, Copy]] | None = None
    """Tables and rows as bytes, made beforehand while another flush was under way."""

    @property
    def has_assumptions(self) -> bool:
        """Whether it declines for want of what others may have brought since."""
        return any(len(one.assumptions.numbers) for one in self.decided)
