"""Signals of flows that have not started: none is too early, and none is kept for ever."""

from collections import Counter
from collections.abc import Mapping
from typing import Final

from engine.ledger.nouns import shard_of

EARLY_MAX: Final = 10_000
"""Signals of flows that have not started that a shard keeps; more are `flow_not_found`."""

EARLY_KEPT: Final = 90 * 86_400 * 1_000_000
"""Microseconds after which they are forgotten."""

FORGET_MAX: Final = 1000
"""Signals that are forgotten in one flush."""


class EarlyCounts:
    """How many of them are kept, by shard.

    Args:
        shard_count: Of the ledger.
    """

    def __init__(self, shard_count: int) -> None:
        self._shard_count = shard_count
        self._kept: Counter[int] = Counter()

    def load(self, kept: Mapping[int, int]) -> None:
        """Take in what Postgres says of shards."""
        self._kept |= Counter(kept)

    def begin(self) -> "EarlyChanges":
        """What a round changes of it."""
        return EarlyChanges(self._kept, self._shard_count)


class EarlyChanges:
    """What a round that is not committed changes."""

    def __init__(self, kept: Counter[int], shard_count: int) -> None:
        self._kept = kept
        self._shard_count = shard_count
        self._changes: Counter[int] = Counter()

    def has_room(self, flow: bytes) -> bool:
        """Whether one more signal of a flow is kept."""
        shard = shard_of(flow, self._shard_count)
        return self._kept[shard] + self._changes[shard] < EARLY_MAX

    def add(self, flow: bytes, signals: int) -> None:
        """Keep more of a flow, or fewer."""
        self._changes[shard_of(flow, self._shard_count)] += signals

    def drop(self, shard: int) -> None:
        """Keep one less of a shard."""
        self._changes[shard] -= 1

    def commit(self) -> None:
        """It is committed."""
        for shard, signals in self._changes.items():
            self._kept[shard] += signals
