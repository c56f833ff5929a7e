"""What operators ask of the streams: what waits in them, and how their server is set up."""

import re
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Final

import msgspec
import redis.exceptions

from engine.ledger.nouns import Position, stream_name
from engine.streams.cluster import ClusterClient
from engine.streams.streams import Entry, Streams, _position, _translated

PAGE_ENTRIES: Final = 64
SCANNED_KEYS_MAX: Final = 100_000
"""Beyond it keys are not looked at: a Redis that holds other things too has many."""
SETTINGS: Final = ("maxmemory-policy", "appendonly", "appendfsync", "dir")

_STREAM: Final = re.compile(r":transfers:\{(\d{4})\}\Z")


class RedisFacts(msgspec.Struct, frozen=True):
    """One node: what it says about itself, how it is set, and its clock."""

    info: dict[str, str]
    settings: dict[str, str]
    """Empty where it refuses to tell."""
    time: float
    """Seconds since 1970."""


class StreamsInspection(Streams):
    """The streams of all shards, read by somebody who decides nothing."""

    async def entries(self, shard: int, after: str, entries_max: int) -> AsyncIterator[Entry]:
        """The entries of a stream, the oldest first, without waiting for more.

        Args:
            shard: Whose stream.
            after: The id of the entry before the first one; `-` for all.
            entries_max: At most as many.
        """
        start = after if after == "-" else f"({after}"
        while entries_max > 0:
            count = min(PAGE_ENTRIES, entries_max)
            with _translated():
                found = await self._client(self._writer).execute_command(
                    "XRANGE", stream_name(self.prefix, shard), start, "+", "COUNT", count
                )
            for entry_id, fields in found:
                yield Entry(shard, _position(entry_id, 0), fields)
            if len(found) < count:
                return
            entries_max -= count
            start = f"({found[-1][0].decode()}"

    async def find_entry(self, shards: Sequence[int], position: Position) -> list[Entry]:
        """The entries of one id, in whichever of some streams they are."""
        with _translated():
            pipeline = self._client(self._writer).pipeline(transaction=False)
            for shard in shards:
                name, entry_id = stream_name(self.prefix, shard), position.entry_id
                pipeline.execute_command("XRANGE", name, entry_id, entry_id)
            answers = await pipeline.execute()
        return [
            Entry(shard, position, fields)
            for shard, answer in zip(shards, answers, strict=True)
            for _, fields in answer
        ]

    async def lengths(self, shards: Sequence[int]) -> dict[int, int]:
        """How many entries each stream has, decided ones that are not deleted yet included."""
        with _translated():
            pipeline = self._client(self._writer).pipeline(transaction=False)
            for shard in shards:
                pipeline.xlen(stream_name(self.prefix, shard))
            answers = await pipeline.execute()
        return dict(zip(shards, answers, strict=True))

    async def now(self) -> float:
        """The clock of Redis, in seconds since 1970."""
        with _translated():
            seconds, microseconds = await self._client(self._writer).time()
        return int(seconds) + int(microseconds) / 1_000_000

    async def add(self, shard: int, fields: Sequence[bytes]) -> str:
        """Add an entry to the stream of a shard; its id."""
        with _translated():
            entry_id: bytes = await self._client(self._writer).execute_command(
                "XADD", stream_name(self.prefix, shard), "*", *fields
            )
        return entry_id.decode()

    # The server.

    async def facts(self) -> list[RedisFacts]:
        """What each node says about itself."""
        return [await _facts_of(node) for node in self._nodes()]

    async def streams_beyond(self, shard_count: int) -> Mapping[str, int] | None:
        """Streams of transfers that no shard has, and how long they are; None where not known."""
        found: dict[str, int] = {}
        for node in self._nodes():
            cursor, seen = 0, 0
            while True:
                with _translated():
                    # By name alone: TYPE would look at each key.
                    answer = await node.execute_command(
                        "SCAN", cursor, "MATCH", f"{self.prefix}:transfers:*", "COUNT", 1000
                    )
                cursor = int(answer[0])
                seen += 1000
                for key in answer[1]:
                    name = key.decode(errors="replace")
                    if not is_read(name, self.prefix, shard_count):
                        found[name] = await _length(node, key)
                if not cursor:
                    break
                if seen >= SCANNED_KEYS_MAX:
                    return found or None
        return found

    def _nodes(self) -> list[Any]:
        writer: Any = self._client(self._writer)
        if not isinstance(writer, ClusterClient):
            return [writer]
        nodes = dict.fromkeys(node for node in writer._primaries if node is not None)  # noqa: SLF001 - of this room
        return [writer._client(node) for node in nodes]  # noqa: SLF001 - of this room


def is_read(name: str, prefix: str, shard_count: int) -> bool:
    """Whether a worker reads a stream of that name, or has set it aside as poisoned."""
    match = _STREAM.search(name.removesuffix(":poisoned"))
    return match is not None and name.startswith(prefix) and int(match[1]) < shard_count


async def _length(node: Any, key: bytes) -> int:
    try:
        return int(await node.execute_command("XLEN", key))
    except redis.exceptions.ResponseError:
        return 0  # It is no stream.


async def _facts_of(node: Any) -> RedisFacts:
    info: dict[str, Any] = {}
    with _translated():
        for section in ("server", "memory", "persistence", "stats", "replication"):
            info |= await node.info(section)
        seconds, microseconds = await node.time()
    settings: dict[str, str] = {}
    try:
        for name in SETTINGS:
            answer = await node.execute_command("CONFIG GET", name)
            pairs = (
                answer
                if isinstance(answer, dict)
                else dict(zip(answer[::2], answer[1::2], strict=True))
            )
            settings |= {_text(key): _text(value) for key, value in pairs.items()}
    except redis.exceptions.ResponseError:
        pass  # Managed services do not tell.
    return RedisFacts(
        {name: str(value) for name, value in info.items()},
        settings,
        int(seconds) + int(microseconds) / 1_000_000,
    )


def _text(value: bytes | str) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value
