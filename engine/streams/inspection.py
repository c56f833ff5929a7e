"""What operators look for in the streams: entries, and how the server is set."""

from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

import msgspec

from engine.errors import EngineError
from engine.ledger.nouns import Position, stream_name
from engine.streams.entries import Entry, entry_of
from engine.streams.reader import ONE_ENTRY_BYTES_MAX
from engine.streams.refusals import ReplyTooLongError
from engine.streams.streams import Streams

PAGE_ENTRIES: Final = 64
PAGE_BYTES_MAX: Final = 32 * 1024 * 1024
SETTINGS: Final = ("maxmemory-policy", "appendonly", "appendfsync", "dir")
SECTIONS: Final = ("server", "memory", "persistence", "stats", "replication")


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

        One that is too large to be read ends them.

        Args:
            shard: Whose stream.
            after: The id of the entry before the first one; `-` for all.
            entries_max: At most as many.
        """
        start = after if after == "-" else f"({after}"
        count = min(PAGE_ENTRIES, entries_max)
        while entries_max > 0:
            name = stream_name(self.prefix, shard)
            command = ("XRANGE", name, start, "+", "COUNT", count)
            most = PAGE_BYTES_MAX if count > 1 else ONE_ENTRY_BYTES_MAX
            [found] = await self._sender.send_apart([command], most)
            if isinstance(found, ReplyTooLongError):
                if count == 1:
                    return
                count = 1
                continue
            for entry_id, fields in _value(found):
                yield entry_of(shard, _position(entry_id), fields)
            if len(found) < count:
                return
            entries_max -= count
            count = min(PAGE_ENTRIES, entries_max)
            start = f"({found[-1][0].decode()}"

    async def find_entry(self, shards: Sequence[int], position: Position) -> list[Entry]:
        """The entries of one id, in whichever of some streams they are."""
        entry_id = position.entry_id
        commands = [("XRANGE", stream_name(self.prefix, s), entry_id, entry_id) for s in shards]
        answers = await self._sender.send_apart(commands, ONE_ENTRY_BYTES_MAX)
        return [
            entry_of(shard, position, fields)
            for shard, answer in zip(shards, answers, strict=True)
            if not isinstance(answer, EngineError)
            for _, fields in answer
        ]

    async def lengths(self, shards: Sequence[int]) -> dict[int, int]:
        """How many entries each stream has, decided ones that are not deleted yet included."""
        commands = [("XLEN", stream_name(self.prefix, shard)) for shard in shards]
        answers = await self._sender.send(commands)
        return {
            shard: 0 if isinstance(answer, EngineError) else answer
            for shard, answer in zip(shards, answers, strict=True)
        }

    async def now(self) -> float:
        """The clock of Redis, in seconds since 1970."""
        [answer] = await self._sender.send([("TIME",)])
        seconds, microseconds = _value(answer)
        return int(seconds) + int(microseconds) / 1_000_000

    async def add(self, shard: int, fields: Sequence[bytes]) -> str:
        """Add an entry to the stream of a shard; its id."""
        [answer] = await self._sender.send(
            [("XADD", stream_name(self.prefix, shard), "*", *fields)]
        )
        entry_id: bytes = _value(answer)
        return entry_id.decode()

    # The server.

    async def facts(self) -> RedisFacts:
        """What the server, or the first node of a cluster, says about itself."""
        info: dict[str, str] = {}
        for reply in await self._sender.send([("INFO", section) for section in SECTIONS]):
            for line in bytes(_value(reply)).decode(errors="replace").splitlines():
                name, colon, value = line.partition(":")
                if colon and not name.startswith("#"):
                    info[name] = value
        settings: dict[str, str] = {}
        for reply in await self._sender.send([("CONFIG", "GET", name) for name in SETTINGS]):
            # Managed services do not tell.
            if not isinstance(reply, EngineError):
                words = [bytes(word).decode(errors="replace") for word in reply]
                settings |= dict(zip(words[::2], words[1::2], strict=False))
        return RedisFacts(info, settings, await self.now())


def _position(entry_id: bytes) -> Position:
    ms, seq = map(int, entry_id.split(b"-"))
    return Position(0, ms, seq)


def _value(reply: Any) -> Any:
    """A reply that is no refusal. Raises what it means otherwise."""
    if isinstance(reply, EngineError):
        raise reply
    return reply
