"""The streams against the ledger: what waits, and what a Redis that came back older shows.

The streams go on while they are read, so they are read after the snapshot: what they show
then can be ahead of its positions, never behind.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from importlib.resources import files
from typing import Any, Final, TypeAlias
from uuid import UUID

from engine.ledger.nouns import Position
from engine.store.snapshot import read_damaged
from engine.streams.streams import Entry, StreamEnds
from engine.verify.report import OFFENDERS_MAX, CheckResult
from engine.worker.inbox import understand

StreamsPositions: TypeAlias = Callable[[Collection[int]], Awaitable[Mapping[int, StreamEnds]]]
"""Both ends of the streams of some shards: `Streams.ends`."""

EntriesBelow: TypeAlias = Callable[[int, Position], Awaitable[Sequence[Entry]]]
"""Entries of a shard at or below a position: `Streams.read_below`."""

TITLE: Final = "No stream is behind its position, or holds entries below it that nobody decided"

DELETED_SECONDS_MAX: Final = 2.0
"""How long a worker is given to delete an entry that it has decided."""

_OLDER: Final = (
    "the stream is behind its position, as in a Redis that came back older, and entries wait in "
    "it; start a worker, which decides them in the next generation of positions"
)
_UNDECIDED: Final = (
    "an entry at or below the position holds transfers that the ledger does not know: from a Redis "
    "that came back older, or refused with their ids left free; start a worker, which decides it"
)


async def check_streams(
    connection: Any,
    ends_of: StreamsPositions,
    entries_below: EntriesBelow | None,
    prefix: str,
) -> CheckResult:
    """Compare the positions of a snapshot with the streams as they are now.

    Args:
        connection: Of the snapshot.
        ends_of: Both ends of streams.
        entries_below: The entries below a position; None to leave them unjudged.
        prefix: Of the names of the streams.
    """
    began = time.monotonic()
    positions = {
        row["shard"]: Position(row["generation"], row["ms"], row["seq"])
        for row in await read_damaged(connection, _query("positions"))
    }
    ends = await ends_of(list(positions))
    offenders = [
        {
            "what": "streams",
            "fault": _OLDER,
            "shard": shard,
            "last_id": ends[shard].last.entry_id,
            "position": position.entry_id,
        }
        for shard, position in (await _still_behind(ends, positions, ends_of)).items()
    ]
    below: list[Entry] = []
    if entries_below is not None:
        below = await _read_below(ends, positions, entries_below)
        undecided = await _undecided(connection, below, prefix)
        undecided = await _still_there(undecided, positions, entries_below)
        offenders += [
            {
                "what": "entries",
                "fault": _UNDECIDED,
                "shard": entry.shard,
                "entry": entry.position.entry_id,
                "position": positions[entry.shard].entry_id,
            }
            for entry in undecided
        ]
    counted = {"streams": len(positions), **_waiting(ends, below)}
    return CheckResult(
        "streams",
        TITLE,
        counted,
        len(offenders),
        offenders[:OFFENDERS_MAX],
        not offenders,
        time.monotonic() - began,
    )


def _query(name: str) -> str:
    return (files("engine.verify") / f"{name}.sql").read_text()


def _place(position: Position) -> tuple[int, int]:
    """What Redis knows of a position; the generation is the ledger's."""
    return position.ms, position.seq


def _waiting(ends: Mapping[int, StreamEnds], below: Sequence[Entry]) -> dict[str, int]:
    waiting = {shard: end.length for shard, end in ends.items()}
    for entry in below:
        waiting[entry.shard] -= 1
    counted = {"entries waiting": sum(waiting.values()), "entries not deleted yet": len(below)}
    for shard, entries in sorted(waiting.items()):
        if entries > 0:
            counted[f"entries waiting in shard {shard}"] = entries
    return counted


async def _read_below(
    ends: Mapping[int, StreamEnds], positions: Mapping[int, Position], entries_below: EntriesBelow
) -> list[Entry]:
    found: list[Entry] = []
    for shard, position in positions.items():
        first = ends[shard].first
        if first is not None and _place(first) <= _place(position):
            found += await entries_below(shard, position)
    return found


async def _undecided(connection: Any, entries: Sequence[Entry], prefix: str) -> list[Entry]:
    """Those of the entries that hold something the ledger does not know."""
    if not entries:
        return []
    shards = sorted({entry.shard for entry in entries})
    buried = {tuple(row) for row in await read_damaged(connection, _query("buried"), shards)}
    undecided = []
    # What waited for a thaw is in the ledger as it came, like a dead letter.
    ids_of: list[tuple[Entry, set[UUID]]] = []
    for entry in entries:
        request = understand(entry, prefix).request
        if (entry.shard, *_place(entry.position)) in buried:
            continue
        if request is not None:
            ids_of.append(
                (
                    entry,
                    {UUID(bytes=transfer_id) for transfer_id in request.transfers["id"].tolist()},
                )
            )
        else:
            undecided.append(entry)
    wanted = list(set[UUID]().union(*(ids for _, ids in ids_of)))
    known = {row["id"] for row in await read_damaged(connection, _query("decided"), wanted)}
    return undecided + [entry for entry, ids in ids_of if not ids <= known]


async def _still_behind(
    ends: Mapping[int, StreamEnds], positions: Mapping[int, Position], ends_of: StreamsPositions
) -> dict[int, Position]:
    """Positions of streams that went back, with entries that no worker decides within a moment.

    Whoever owns such a stream begins the next generation of positions with it.
    """

    def behind(found: Mapping[int, StreamEnds]) -> set[int]:
        return {
            shard
            for shard, end in found.items()
            if end.length and _place(end.last) < _place(positions[shard])
        }

    left = behind(ends)
    deadline = time.monotonic() + DELETED_SECONDS_MAX
    while left and time.monotonic() < deadline:
        await asyncio.sleep(0.1)
        left = behind(await ends_of(sorted(left)))
    return {shard: positions[shard] for shard in sorted(left)}


async def _still_there(
    entries: Sequence[Entry], positions: Mapping[int, Position], entries_below: EntriesBelow
) -> list[Entry]:
    """Those that no worker deletes within a moment: a refusal may leave the id free."""
    left = list(entries)
    deadline = time.monotonic() + DELETED_SECONDS_MAX
    while left and time.monotonic() < deadline:
        await asyncio.sleep(0.1)
        there = set()
        for shard in {entry.shard for entry in left}:
            there |= {(shard, e.position) for e in await entries_below(shard, positions[shard])}
        left = [entry for entry in left if (entry.shard, entry.position) in there]
    return left
