"""Streams that are not as the ledger left them: what lies below a position, ids at their end.

A Redis that came back older, or a stream that somebody deleted, gives ids that the position has
passed already. A stream in which somebody added an entry with the highest id takes no more; it is
renamed, and its entries are decided where they lie. After either the stream of that name is read
from its beginning, in the next generation of positions.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from engine.errors import EngineError
from engine.ledger.nouns import Position, stream_name
from engine.streams.bounds import (
    BELOW_ENTRIES_MAX,
    ENDED_STREAMS_MAX,
    ID_PART_MAX,
    READ_REPLY_BYTES_MAX,
    SINGLY_STREAMS_MAX,
)
from engine.streams.entries import Entry, entry_of, is_between, position_in_ended, position_of
from engine.streams.reader import ONE_ENTRY_BYTES_MAX, Sending
from engine.streams.refusals import CutOffError, KeyRefusedError, ReplyTooLongError


class Look(msgspec.Struct, frozen=True):
    """What a look at one stream shows."""

    below: str | None = None
    """The first entry at or below the position, or `?` where it is too large to be looked at."""
    is_behind: bool = False
    """Whether the next id it gives may be at or below the position."""
    has_ended: bool = False
    """Whether its ids have come to their end, or those of one before it."""
    error: EngineError | None = None
    """Why nothing can be known."""

    @property
    def is_in_step(self) -> bool:
        """Whether reading on from the position misses nothing."""
        return self == Look()


class Recovery:
    """Looks at streams, and at what is below positions in them.

    Args:
        sender: For what is short.
        large: For entries that may be large, one at a time.
        prefix: Of the names of the streams.
    """

    def __init__(self, sender: Sending, large: Sending, prefix: str) -> None:
        self._sender = sender
        self._large = large
        self._prefix = prefix

    async def look(self, positions: Mapping[int, Position]) -> dict[int, Look]:
        """Compare streams with positions."""
        looks: dict[int, Look] = {}
        shards = list(positions)
        for start in range(0, len(shards), SINGLY_STREAMS_MAX):
            piece = {shard: positions[shard] for shard in shards[start:][:SINGLY_STREAMS_MAX]}
            looks |= await self._look_at(piece)
        return looks

    async def _look_at(self, positions: Mapping[int, Position]) -> dict[int, Look]:
        commands: list[tuple[Any, ...]] = []
        for shard, position in positions.items():
            name = stream_name(self._prefix, shard)
            last = "0-0" if is_between(position) else position.entry_id
            commands += [
                ("XRANGE", name, "-", last, "COUNT", 1),
                ("XLEN", name),
                ("EXISTS", *self._ended_names(shard)),
            ]
        replies = await self._sender.send_apart(commands, ONE_ENTRY_BYTES_MAX)
        looks, empty = {}, []
        for place, (shard, position) in enumerate(positions.items()):
            below, length, names = replies[3 * place : 3 * place + 3]
            errors = [reply for reply in (below, length, names) if isinstance(reply, EngineError)]
            ended = not errors and names > 0 and await self._are_streams(shard)
            if isinstance(below, ReplyTooLongError):
                looks[shard] = Look("?", has_ended=ended)
            elif errors:
                looks[shard] = Look(error=errors[0])
            else:
                first = below[0][0].decode() if below else None
                looks[shard] = Look(first, is_behind=is_between(position), has_ended=ended)
                if not length:
                    empty.append(shard)
        commands = [("XINFO", "STREAM", stream_name(self._prefix, shard)) for shard in empty]
        infos = await self._sender.send_apart(commands, ONE_ENTRY_BYTES_MAX)
        for shard, info in zip(empty, infos, strict=True):
            if not isinstance(info, ReplyTooLongError):  # Then it has a large entry by now.
                looks[shard] = _with_last(looks[shard], info, positions[shard])
        return looks

    async def last_entry(self, shard: int, position: Position) -> Position | None:
        """The position of the newest entry of a stream, if there is one."""
        reply: Any
        name = stream_name(self._prefix, shard)
        [reply] = await self._large.send_apart([("XREVRANGE", name, "+", "-", "COUNT", 1)], None)
        if isinstance(reply, EngineError):
            raise reply
        for entry_id, _ in reply:
            return position_of(entry_id, position.generation)
        return None

    async def read_below(self, shard: int, position: Position) -> list[Entry]:
        """Entries at or below a committed position, which should be none but after a crash."""
        if is_between(position):
            return []
        rows = await self._read_range(stream_name(self._prefix, shard), "-", position.entry_id)
        return [
            entry_of(shard, position_of(entry_id, position.generation), fields, below=True)
            for entry_id, fields in rows
        ]

    async def read_next(self, shard: int, position: Position) -> Entry | None:
        """The entry after a position, however large it is.

        Raises:
            KeyRefusedError: The stream cannot be read, or has come to its end.
        """
        command = (
            "XRANGE", stream_name(self._prefix, shard), f"({position.entry_id}", "+", "COUNT", 1
        )  # fmt: skip
        [reply] = await self._large.send_apart([command], None)
        if isinstance(reply, EngineError):
            raise reply
        for entry_id, fields in reply:
            return entry_of(shard, position_of(entry_id, position.generation), fields)
        return None

    async def _read_range(self, name: str, first: str, last: str) -> list[Any]:
        command = "XRANGE", name, first, last, "COUNT"
        [reply] = await self._sender.send_apart(
            [(*command, BELOW_ENTRIES_MAX)], READ_REPLY_BYTES_MAX
        )
        if isinstance(reply, ReplyTooLongError | CutOffError):
            [reply] = await self._large.send_apart([(*command, 1)], None)
        if isinstance(reply, EngineError):
            raise reply
        rows: list[Any] = reply
        return rows

    # Streams whose ids have come to their end.

    def _ended_names(self, shard: int) -> list[str]:
        name = f"{stream_name(self._prefix, shard)}:poisoned"
        return [name, *(f"{name}:{number}" for number in range(2, ENDED_STREAMS_MAX + 1))]

    async def _are_streams(self, shard: int) -> bool:
        """Whether any of what bears these names is a stream."""
        commands = [("TYPE", name) for name in self._ended_names(shard)]
        return b"stream" in await self._sender.send(commands)

    async def end_stream(self, shard: int, position: Position | None) -> bool:
        """Let a stream that has ended be called otherwise; returns whether it was so.

        Args:
            shard: Whose stream.
            position: How far it is decided; None where it is known that it has ended.

        Raises:
            KeyRefusedError: All names are taken by something that cannot be decided.
        """
        name = stream_name(self._prefix, shard)
        if position is not None and not await self._has_ended(name, position):
            return False
        ended = name
        for ended in self._ended_names(shard):
            [renamed] = await self._sender.send([("RENAMENX", name, ended)])
            if isinstance(renamed, EngineError):
                if "no such key" in str(renamed):
                    return True
                raise renamed
            if renamed:
                import structlog  # noqa: PLC0415 - who asks one question does not wait for it

                structlog.get_logger().error("stream_poisoned", stream=name, renamed=ended)
                return True
        raise KeyRefusedError(
            f"the ids of {name} have come to their end, and {ended} and all names before it are "
            "taken: delete or rename these keys"
        )

    async def _has_ended(self, name: str, position: Position) -> bool:
        [length] = await self._sender.send([("XLEN", name)])
        if isinstance(length, EngineError):
            raise length
        if length:
            # The second part of an id can be beyond all that the ledger stores, and be followed by
            # ids that are not: what cannot be read is what comes next, or the newest.
            after = "-" if is_between(position) else f"({position.entry_id}"
            for command in (
                ("XREVRANGE", name, "+", "-", "COUNT", 1),
                ("XRANGE", name, after, "+", "COUNT", 1),
            ):
                reply: Any
                [reply] = await self._large.send_apart([command], None)
                if isinstance(reply, EngineError):
                    raise reply
                if any(max(map(int, each.split(b"-"))) > ID_PART_MAX for each, _ in reply):
                    return True
            return False
        [info] = await self._sender.send_apart([("XINFO", "STREAM", name)], ONE_ENTRY_BYTES_MAX)
        if isinstance(info, ReplyTooLongError):  # It has a large entry by now.
            return False
        return _with_last(Look(), info, Position()).has_ended

    async def read_ended(self, shard: int, position: Position) -> list[Entry]:
        """Entries of streams that have ended; none once all are decided and deleted.

        A stranger's key by such a name is let be, unless it is a stream: then its entries are
        decided too.
        """
        for name in self._ended_names(shard):
            try:
                rows = await self._read_range(name, "-", "+")
            except KeyRefusedError:
                continue
            if rows:
                return [_ended(shard, position, name, *row) for row in rows]
            await self._sender.send([("UNLINK", name)])
        return []


def _with_last(look: Look, info: Any, position: Position) -> Look:
    """With what an empty stream says of the last id that it gave."""
    if isinstance(info, EngineError) and "no such key" not in str(info):
        return msgspec.structs.replace(look, error=info)
    last = b"0-0"
    if not isinstance(info, EngineError):
        last = dict(zip(info[::2], info[1::2], strict=True))[b"last-generated-id"]
    ms, seq = map(int, last.split(b"-"))
    return msgspec.structs.replace(
        look,
        is_behind=look.is_behind or (ms, seq) < (position.ms, position.seq),
        has_ended=look.has_ended or max(ms, seq) > ID_PART_MAX,
    )


def _ended(shard: int, position: Position, name: str, entry_id: bytes, fields: Any) -> Entry:
    generation = position.generation - position.generation % 4
    place = position_in_ended(entry_id, generation)
    entry = entry_of(shard, place, fields, below=True)
    return msgspec.structs.replace(entry, ended=(name, entry_id.decode()))
