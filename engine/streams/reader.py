"""Reading what follows positions: much at once where that goes well, and less where it does not.

One XREAD asks for all streams and fails as a whole: where one key is of another type, or one
entry is of a gigabyte. Then the streams are read one by one, which shows whose fault it is; that
one is named and the others are read.

A connection that is lost in the middle of a read may be lost for what was read, as where Redis
bounds what it keeps for a client. It is made again, and each stream read by itself: one for which
it is lost again is named, and always read by itself until that goes well.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

import msgspec

from engine.errors import EngineError, TryAgainError
from engine.ledger.nouns import Position, stream_name
from engine.streams.bounds import (
    CLUSTER_PAUSE_SECONDS_MAX,
    CLUSTER_PAUSE_SECONDS_MIN,
    ENTRY_READ_BYTES_MAX,
    READ_BYTES,
    READ_BYTES_MIN,
    READ_ENTRIES_FIRST,
    READ_ENTRIES_MAX,
    READ_REPLY_BYTES_MAX,
    READ_SECONDS,
    SINGLY_STREAMS_MAX,
)
from engine.streams.entries import Entry, StreamEndedError, take_entries
from engine.streams.refusals import (
    CutOffError,
    KeyRefusedError,
    LostError,
    NotNowError,
    ReplyTooLongError,
    UnblockedError,
)
from engine.streams.sender import Words

SINGLY_READS: Final = 64
"""After a reply that was too long with one entry of each stream, so often they are read singly."""

ONE_ENTRY_BYTES_MAX: Final = ENTRY_READ_BYTES_MAX + 1024 * 1024
"""Of the reply with one entry: lengths and names are in it too."""


class Sending(Protocol):
    """A `Sender`, or the simulated Redis's."""

    @property
    def is_cluster(self) -> bool:
        """Whether it leads to several nodes."""

    @property
    def reply_seconds(self) -> float:
        """How long the bytes of the last reply were under way."""

    async def open(self) -> bool:
        """Connect, where that is still to be done; returns whether it was."""

    async def send(
        self, commands: Sequence[Words], reply_bytes_max: int | None = None
    ) -> list[Any]:
        """Send commands, and return their replies; a refusal is a value among them."""

    async def try_to_send(
        self, commands: Sequence[Words], reply_bytes_max: int | None = None
    ) -> list[Any]:
        """As `send`, but that a connection was lost is a value too."""

    async def send_apart(self, commands: Sequence[Words], reply_bytes_max: int | None) -> list[Any]:
        """As `send`, of commands that may be sent again: what cannot be read is a value."""

    def close(self) -> None:
        """Cut the connection."""


class Reading(msgspec.Struct):
    """What came of one read."""

    entries: list[Entry]
    faults: dict[int, EngineError]
    """By shard, why its stream cannot be read, while others are."""
    large: set[int]
    """Shards whose next entry is too large to be read with others."""


class Reader:
    """Reads the streams of shards, on a connection that is kept waiting.

    Args:
        sender: The connection.
        prefix: Of the names of the streams.
    """

    def __init__(self, sender: Sending, prefix: str) -> None:
        self._sender = sender
        self._prefix = prefix
        self._count = READ_ENTRIES_FIRST
        self._singly = 0
        self._suspects: set[int] = set()
        self.is_made_again = False
        """Whether a read made its connection again: it may lead to another Redis by now."""
        self._interrupted = asyncio.Event()
        self.client_id: int | None = None
        """By which another connection can end a read that waits."""

    def use(self, sender: Sending) -> None:
        """Read over another connection from now on."""
        self._sender = sender
        self.client_id = None

    async def open(self) -> None:
        """Connect, where that is still to be done."""
        if await self._sender.open() and not self._sender.is_cluster:
            [client_id] = await self._sender.send([("CLIENT", "ID")])
            if isinstance(client_id, EngineError):
                raise client_id
            self.client_id = int(client_id)

    def interrupt(self) -> None:
        """Let a read of a cluster that waits for entries return at once."""
        self._interrupted.set()

    async def read(self, positions: Mapping[int, Position], block_ms: int) -> Reading:
        """Read what follows `positions` in the streams of their shards.

        Args:
            positions: By shard, the last entry read.
            block_ms: How long to wait when there is nothing.

        Raises:
            TryAgainError: Redis is out of reach, or takes nothing now.
            ConfigurationError: It refuses all.
        """
        self.is_made_again = False
        await self.open()
        if self._singly or not self._suspects.isdisjoint(positions):
            self._singly = max(self._singly - 1, 0)
            reading = await self._read_singly(positions)
            if reading.entries or reading.faults or reading.large:
                return reading
            self._singly = 0
        try:
            if self._sender.is_cluster:
                return await self._read_cluster(positions, block_ms)
            return await self._read_together(positions, block_ms)
        except LostError:
            self._ask_for_less()
            self.is_made_again = True
            return await self._read_singly(positions)

    async def _read_together(self, positions: Mapping[int, Position], block_ms: int) -> Reading:
        names = [stream_name(self._prefix, shard) for shard in positions]
        after = [position.entry_id for position in positions.values()]
        command = "XREAD", "COUNT", self._count, "BLOCK", block_ms, "STREAMS", *names, *after
        try:
            [reply] = await self._sender.try_to_send([command], READ_REPLY_BYTES_MAX)
        except TryAgainError:
            self._ask_for_less()
            raise
        if isinstance(reply, ReplyTooLongError):
            self._singly = 0 if self._count > 1 else SINGLY_READS
            self._ask_for_less()
            return await self._read_singly(positions)
        if isinstance(reply, UnblockedError):
            return Reading([], {}, set())
        if isinstance(reply, LostError | NotNowError):
            raise reply
        if isinstance(reply, EngineError):
            return await self._read_singly(positions)
        shards = dict(zip((name.encode() for name in names), positions, strict=True))
        found = {shards[bytes(name)]: entries for name, entries in reply or ()}
        return self._taken(positions, found, {}, set())

    async def _read_singly(self, positions: Mapping[int, Position]) -> Reading:
        """One entry of each stream, and by each stream's own command."""
        found: dict[int, Any] = {}
        faults: dict[int, EngineError] = {}
        large: set[int] = set()
        shards = [shard for shard in positions if shard not in self._suspects]
        pieces = [
            shards[start : start + SINGLY_STREAMS_MAX]
            for start in range(0, len(shards), SINGLY_STREAMS_MAX)
        ]
        pieces += [[shard] for shard in positions if shard in self._suspects]
        for piece in pieces:
            commands = [self._command(shard, positions[shard], 1) for shard in piece]
            replies = await self._sender.send_apart(commands, ONE_ENTRY_BYTES_MAX)
            self._suspects.difference_update(piece)
            for shard, reply in zip(piece, replies, strict=True):
                if isinstance(reply, ReplyTooLongError):
                    large.add(shard)
                elif isinstance(reply, EngineError):
                    faults[shard] = reply
                elif reply:
                    found[shard] = reply[0][1]
                if isinstance(reply, CutOffError):
                    self._suspects.add(shard)
        await self.open()
        return self._taken(positions, found, faults, large)

    async def _read_cluster(self, positions: Mapping[int, Position], block_ms: int) -> Reading:
        """Each node is asked for all its streams in one round trip, again and again.

        A cluster takes one stream a command, and a connection waits for one command.
        """
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + block_ms / 1000
        pause_seconds = CLUSTER_PAUSE_SECONDS_MIN
        while True:
            self._interrupted.clear()
            commands = [self._command(s, after, self._count) for s, after in positions.items()]
            replies = await self._sender.try_to_send(commands, READ_REPLY_BYTES_MAX)
            if any(isinstance(reply, ReplyTooLongError) for reply in replies):
                self._ask_for_less()
                return await self._read_singly(positions)
            found, faults = {}, {}
            for shard, reply in zip(positions, replies, strict=True):
                if isinstance(reply, LostError):
                    raise reply
                if isinstance(reply, EngineError):
                    faults[shard] = reply
                elif reply:
                    found[shard] = reply[0][1]
            if found or faults or self._interrupted.is_set() or loop.time() >= ends_at:
                return self._taken(positions, found, faults, set())
            try:
                await asyncio.wait_for(self._interrupted.wait(), pause_seconds)
            except TimeoutError:
                pause_seconds = min(pause_seconds * 2, CLUSTER_PAUSE_SECONDS_MAX)
            else:
                return Reading([], {}, set())

    def _command(self, shard: int, after: Position, count: int) -> Words:
        return "XREAD", "COUNT", count, "STREAMS", stream_name(self._prefix, shard), after.entry_id

    def _taken(
        self,
        positions: Mapping[int, Position],
        found: Mapping[int, Sequence[Any]],
        faults: dict[int, EngineError],
        large: set[int],
    ) -> Reading:
        if len(faults) == len(positions):
            # Where it is not a key of its own that each suffers from, it is all of Redis.
            for fault in faults.values():
                if not isinstance(fault, KeyRefusedError):
                    raise fault
        entries: list[Entry] = []
        size = 0
        for shard, rows in found.items():
            try:
                size += take_entries(shard, positions[shard].generation, rows, entries)
            except StreamEndedError as error:
                faults[shard] = error
        self._adapt(len(entries), size, len(found))
        return Reading(entries, faults, large)

    # How much at once.

    def _adapt(self, entries: int, size: int, streams: int) -> None:
        """Keep a read at about READ_BYTES and READ_SECONDS, whatever the size of the entries."""
        if not entries or not size:
            return
        wanted: float = READ_BYTES
        if self._sender.reply_seconds > READ_SECONDS:
            wanted = max(size * READ_SECONDS / self._sender.reply_seconds, READ_BYTES_MIN)
        count = int(wanted * entries / size / streams)
        self._count = max(1, min(READ_ENTRIES_MAX, count, self._count * 4))

    def _ask_for_less(self) -> None:
        self._count = max(1, self._count // 4)
