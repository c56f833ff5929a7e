"""What operators ask of the streams: what waits, where they begin and end, how the server is."""

from collections.abc import Collection, Mapping
from typing import Any

import msgspec

from engine.errors import EngineError
from engine.ledger.nouns import Position, stream_name
from engine.streams.reader import ONE_ENTRY_BYTES_MAX, Sending
from engine.streams.refusals import CutOffError, ReplyTooLongError


class Waiting(msgspec.Struct, frozen=True):
    """What of a shard's stream is not decided yet."""

    entries: int
    oldest_seconds: float | None
    """How long the oldest of them waits, by the clock of Redis; None where none waits."""
    fault: str | None = None
    """Why the stream cannot be read; what waits in it is unknown then."""


class StreamEnds(msgspec.Struct, frozen=True):
    """Both ends of a shard's stream."""

    first: Position | None
    """The oldest entry; None where there is none."""
    last: Position
    """The last id that was ever given; zero where there is no such stream."""
    length: int


async def read_waiting(
    sender: Sending, prefix: str, positions: Mapping[int, Position]
) -> dict[int, Waiting]:
    """What waits behind `positions`, by shard.

    An entry that is decided and not yet deleted is counted until nothing waits.
    """
    commands: list[tuple[Any, ...]] = [("TIME",)]
    for shard, position in positions.items():
        name = stream_name(prefix, shard)
        commands += [
            ("XLEN", name),
            ("XRANGE", name, f"({position.entry_id}", "+", "COUNT", 1),
            # A stream that went back gives ids below the position: these wait too.
            ("XRANGE", name, "-", "+", "COUNT", 1),
        ]
    time, *replies = await sender.send_apart(commands, ONE_ENTRY_BYTES_MAX)
    if isinstance(time, EngineError):
        raise time
    now_ms = int(time[0]) * 1000 + int(time[1]) // 1000
    waiting = {}
    for place, shard in enumerate(positions):
        length, above, first = replies[3 * place : 3 * place + 3]
        if isinstance(length, EngineError):
            waiting[shard] = Waiting(0, None, str(length))
            continue
        oldest = above or first
        if isinstance(oldest, CutOffError):
            waiting[shard] = Waiting(length, None, str(oldest))
            continue
        if isinstance(oldest, ReplyTooLongError):
            waiting[shard] = Waiting(length, None)
        elif length and oldest and not isinstance(oldest, EngineError):
            ms = int(oldest[0][0].partition(b"-")[0])
            age = max(now_ms - ms, 0) / 1000
            waiting[shard] = Waiting(length, age)
        else:
            waiting[shard] = Waiting(0, None)
    return waiting


async def read_ends(sender: Sending, prefix: str, shards: Collection[int]) -> dict[int, StreamEnds]:
    """Where the streams of some shards begin and end; positions are of generation 0."""
    ends = {}
    for shard in shards:
        name = stream_name(prefix, shard)
        first, last, length = await sender.send_apart(
            [
                ("XRANGE", name, "-", "+", "COUNT", 1),
                ("XREVRANGE", name, "+", "-", "COUNT", 1),
                ("XLEN", name),
            ],
            ONE_ENTRY_BYTES_MAX,
        )
        for reply in (first, last, length):
            if isinstance(reply, EngineError):
                raise reply
        last_id = last[0][0] if last else b"0-0"
        if not length:
            [info] = await sender.send([("XINFO", "STREAM", name)])
            if not isinstance(info, EngineError):
                last_id = dict(zip(info[::2], info[1::2], strict=True))[b"last-generated-id"]
            elif "no such key" not in str(info):
                raise info
        ends[shard] = StreamEnds(_place(first[0][0]) if first else None, _place(last_id), length)
    return ends


async def describe_server(sender: Sending) -> dict[str, str]:
    """What the server says about itself: version, memory, whether its file is written."""
    facts: dict[str, str] = {}
    sections = [("INFO", section) for section in ("server", "memory", "persistence")]
    for reply in await sender.send(sections):
        if isinstance(reply, EngineError):
            raise reply
        for line in bytes(reply).decode(errors="replace").splitlines():
            name, colon, value = line.partition(":")
            if colon and not name.startswith("#"):
                facts[name] = value
    return facts


def _place(entry_id: bytes) -> Position:
    ms, seq = map(int, entry_id.split(b"-"))
    return Position(0, ms, seq)
