"""Entries of streams, and their places as the ledger counts them.

Redis counts both parts of an id to 2^64-1, the ledger stores 2^63-1. A stream whose ids have come
beyond that, or went back, is followed by another of a later generation: within a generation
positions are compared as Redis compares ids, and each generation is above those before.
"""

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from engine.ledger.nouns import Position
from engine.streams.bounded_reader import CutFields, cut_fields
from engine.streams.bounds import ENTRY_KEPT_BYTES_MAX, ENTRY_READ_BYTES_MAX, ID_PART_MAX
from engine.streams.refusals import KeyRefusedError

GENERATION_STEP: Final = 4
"""Ids beyond 2^63-1 count, without their first bits, in the generations between."""


class StreamEndedError(KeyRefusedError):
    """The ids of a stream have come to their end."""


class Cut(msgspec.Struct, frozen=True):
    """What is known of an entry of which only the beginning is kept."""

    bytes_total: int
    """Of all its names and values."""
    sha256: str
    """Of all its names and values, one after the other."""


class Entry(msgspec.Struct, frozen=True, gc=False):
    """One entry of a shard's stream, as it came: fields and values in turn."""

    shard: int
    position: Position
    fields: list[bytes]
    below: bool = False
    """At or below the committed position: decided before a crash, or from an older Redis."""
    cut: Cut | None = None
    """Where it is too large, and its fields are only their beginning."""
    ended: tuple[str, str] | None = None
    """Where it lies, if in a stream whose ids came to their end: that stream's name, and its id."""


def next_generation(position: Position) -> Position:
    """The beginning of the stream that follows the one of a position."""
    return Position((position.generation // GENERATION_STEP + 1) * GENERATION_STEP)


def is_between(position: Position) -> bool:
    """Whether it is that of an id beyond those that the ledger stores."""
    return position.generation % GENERATION_STEP != 0


def position_of(entry_id: bytes, generation: int) -> Position:
    """The position of an entry.

    Raises:
        StreamEndedError: Its id is beyond those that the ledger stores.
    """
    ms, seq = map(int, entry_id.split(b"-"))
    if max(ms, seq) > ID_PART_MAX:
        raise StreamEndedError(_ended_at(entry_id))
    return Position(generation, ms, seq)


def take_entries(shard: int, generation: int, rows: Sequence[Any], entries: list[Entry]) -> int:
    """Add what came of a stream to `entries`; returns how many bytes that is.

    It is done for each entry that is read, so it is written for speed.

    Raises:
        StreamEndedError: An id is beyond those that the ledger stores; those before it are added.
    """
    total = 0
    for entry_id, fields in rows:
        ms_text, _, seq_text = entry_id.partition(b"-")
        ms, seq = int(ms_text), int(seq_text)
        if ms > ID_PART_MAX or seq > ID_PART_MAX:
            raise StreamEndedError(_ended_at(entry_id))
        size = sum(map(len, fields))
        total += size
        position = Position(generation, ms, seq)
        if size > ENTRY_READ_BYTES_MAX:
            entries.append(entry_of(shard, position, fields))
        else:
            entries.append(Entry(shard, position, fields))
    return total


def _ended_at(entry_id: bytes) -> str:
    return f"an entry has the id {entry_id.decode()}, near the end of all ids"


def position_in_ended(entry_id: bytes, generation: int) -> Position:
    """The position of an entry of a stream that has ended: like no other's."""
    ms, seq = map(int, entry_id.split(b"-"))
    step = 2 * (ms > ID_PART_MAX) + (seq > ID_PART_MAX)
    return Position(generation + step, ms & ID_PART_MAX, seq & ID_PART_MAX)


def entry_of(
    shard: int, position: Position, fields: Sequence[Any], *, below: bool = False
) -> Entry:
    """An entry; of one that is too large the beginning."""
    if not isinstance(fields, CutFields):
        if sum(map(len, fields)) <= ENTRY_READ_BYTES_MAX:
            return Entry(shard, position, list(fields), below)
        fields = cut_fields(list(fields), ENTRY_KEPT_BYTES_MAX)
    cut = Cut(fields.bytes_total, fields.sha256)
    return Entry(shard, position, list(fields), below, cut)
