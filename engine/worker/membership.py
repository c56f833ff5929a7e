"""Which shards a worker has, and where it stands among the workers: the one place that says so.

It lives as long as the worker, over all its sessions. Beside it stand only copies for a purpose of
their own: the book's mask of shards at home, and how far ahead of this the intake has read.
"""

import asyncio
from collections.abc import Collection, Mapping

from engine.ledger.nouns import Position
from engine.store.rows import Flush, ShardProgress


class Membership:
    """A worker's shards and its standing.

    Args:
        listed: The shards it was told to work on, those and only those; None for its share.
    """

    def __init__(self, listed: Collection[int] | None) -> None:
        self.listed = None if listed is None else frozenset(listed)
        self.shard_count = 0
        """Of the ledger, once the worker is registered."""
        self.shards: dict[int, ShardProgress] = {}
        """Its shards, each as far as it is committed."""
        self.reached: dict[int, Position] = {}
        """How far each shard gets by all that is on its way, committed or not."""
        self.joined = False
        """Whether it has had its share: then it asks others for theirs no more."""
        self.left = False
        """Whether it has given its shards back and is not alive any more."""
        self.ready = asyncio.Event()
        """Set while all shards that it is to have are this worker's and are being read."""

    @property
    def owned(self) -> set[int]:
        """The shards that are this worker's, as far as it knows."""
        return set(self.shards)

    @property
    def newest_time(self) -> int:
        """The latest of its shards' times; what is decided from now on is later."""
        return max((progress.time for progress in self.shards.values()), default=0)

    def change_shards(self, shards: Mapping[int, ShardProgress]) -> None:
        """It has these shards now, by a claim or a release; nothing is on its way."""
        self.shards = dict(shards)
        self.forget_uncommitted()

    def load_shards(self, shards: Mapping[int, ShardProgress]) -> set[int]:
        """It has these shards, as Postgres says; returns those that others took from it."""
        lost = self.shards.keys() - shards.keys()
        if lost:
            self.joined = False
        self.change_shards(shards)
        return lost

    def forget_uncommitted(self) -> None:
        """Nothing is on its way."""
        self.reached = {shard: progress.position for shard, progress in self.shards.items()}

    def has_moved(self, before: Mapping[int, ShardProgress]) -> bool:
        """Whether there is a shard that it had not, or that got to another position."""
        return any(
            shard not in before or before[shard].position != progress.position
            for shard, progress in self.shards.items()
        )

    def reach(self, positions: Mapping[int, Position]) -> None:
        """A flush is made ready that brings shards so far."""
        self.reached |= positions

    def commit(self, flush: Flush) -> None:
        """A flush is committed; others' shards in it are none of ours."""
        for shard, position in flush.positions.items():
            if shard in self.shards:
                self.shards[shard] = ShardProgress(
                    position, flush.time, flush.resolved_until[shard]
                )
