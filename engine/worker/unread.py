"""Shards that are this worker's and are not read, why, and since when: for whoever asks."""

import time
from collections.abc import Collection, Iterator, Mapping
from typing import Final

import msgspec
import structlog

REMIND_SECONDS: Final = 60.0
"""How often the log says it again while it lasts."""

RETRY_SECONDS_MIN: Final = 1.0
RETRY_SECONDS_MAX: Final = 15.0
"""How long a shard is left alone before it is tried again; it doubles each time."""

_log = structlog.get_logger()


class UnreadShard(msgspec.Struct, frozen=True):
    """Why a shard is not read, and since when."""

    shard: int
    reason: str
    since: float
    """Seconds since 1970."""


class UnreadShards(Mapping[int, UnreadShard]):
    """By shard; it outlives sessions, so that what lasts begins once."""

    def __init__(self) -> None:
        self._shards: dict[int, UnreadShard] = {}
        self._reminded: dict[int, float] = {}

    def __getitem__(self, shard: int) -> UnreadShard:
        return self._shards[shard]

    def __iter__(self) -> Iterator[int]:
        return iter(self._shards)

    def __len__(self) -> int:
        return len(self._shards)

    def add(self, shard: int, reason: str) -> None:
        """A shard is not read from now on, or still not."""
        now = time.monotonic()
        known = self._shards.get(shard)
        since = time.time() if known is None else known.since
        self._shards[shard] = UnreadShard(shard, reason, since)
        if known is None:
            _log.error("shard_not_read", shard=shard, reason=reason)
            self._reminded[shard] = now
        elif now - self._reminded[shard] >= REMIND_SECONDS:
            seconds = round(time.time() - since)
            _log.error("shard_still_not_read", shard=shard, reason=reason, seconds=seconds)
            self._reminded[shard] = now

    def end(self, shard: int) -> None:
        """A shard is read again."""
        known = self._shards.pop(shard, None)
        if known is not None:
            _log.info("shard_read_again", shard=shard, seconds=round(time.time() - known.since, 1))

    def forget(self, shards: Collection[int]) -> None:
        """These are another worker's, or nobody's."""
        for shard in shards:
            self._shards.pop(shard, None)

    def keep(self, shards: Collection[int]) -> None:
        """No others are this worker's."""
        self.forget([shard for shard in self._shards if shard not in shards])
