"""What the statements about freezes, and what waits for them, do; see `statements`."""

from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import asyncpg

from engine.ledger.nouns import ID_ZERO
from tests.simulation.statements_reading import in_force, newest_position
from tests.simulation.tables import Row, entry_key

_WAITING = (
    "shard", "generation", "ms", "seq", "freeze_number", "transfers", "size", "digest",
    "original_generation", "original_ms", "original_seq",
)  # fmt: skip


_FREEZE = ("freeze_number", "kind", "what", "declines", "acted_by", "reason", "time")


def _of(row: Row, names: tuple[str, ...]) -> Row:
    return {name: row[name] for name in names}


async def freezes_to_know(run: Any, numbers: list[int], since: int) -> list[Row]:
    acts = list(run.table("freezes").all(run.snapshot))
    thaws = {row["thaws"]: row for row in acts if row["act"] == "thaw"}
    rows = []
    for row in acts:
        thaw = thaws.get(row["freeze_number"])
        declined = thaw is not None and thaw["declines"] and thaw["freeze_number"] > since
        if row["freeze_number"] in numbers or declined:
            rows.append(_of(row, _FREEZE) | {"thaw": thaw and thaw["freeze_number"]})
    return sorted(rows, key=lambda row: row["freeze_number"])


async def waiting_of_shards(run: Any, shards: list[int]) -> list[Row]:
    return [
        _of(row, (*_WAITING, "flush", "ids"))
        for shard in shards
        for row in run.find("waiting", "shard", shard)
        if run.one("released", "released_pkey", entry_key(row)) is None
    ]


async def waiting_fields(
    run: Any, shard: int, generations: list[int], mss: list[int], seqs: list[int]
) -> list[Row]:
    rows = []
    for place in zip(generations, mss, seqs, strict=True):
        row = run.one("waiting", "waiting_pkey", (shard, *place))
        if row is not None:
            at = (row["original_generation"], row["original_ms"], row["original_seq"])
            original = run.one("waiting", "waiting_pkey", (shard, *at))
            told = _of(row, ("generation", "ms", "seq", "fields"))
            rows.append(told | {"original_fields": original and original["fields"]})
    return rows


async def insert_waiting(run: Any, flush: int, *arguments: Any) -> list[Row]:
    columns, gathered = arguments[: len(_WAITING)], arguments[len(_WAITING) :]
    for place, values in enumerate(zip(*columns, strict=True), 1):
        ids, fields = (list(_gathered(place, *gathered[at : at + 2])) for at in (0, 2))
        row = dict(zip(_WAITING, values, strict=True))
        await run.insert("waiting", row | {"flush": flush, "ids": ids, "fields": fields})
        await run.breathe()
    return [{} for _ in columns[0]]


def _gathered(place: int, places: list[int], values: list[Any]) -> Iterator[Any]:
    return (value for at, value in zip(places, values, strict=True) if at == place)


async def insert_released(run: Any, flush: int, *places: list[int]) -> list[Row]:
    for shard, generation, ms, seq in zip(*places, strict=True):
        row = {"shard": shard, "generation": generation, "ms": ms, "seq": seq, "flush": flush}
        await run.insert("released", row)
    return [{} for _ in places[0]]


async def all_owners(run: Any) -> list[Row]:
    owning: dict[bytes, list[int]] = {ID_ZERO: []}
    for row in run.table("owners").all(run.snapshot):
        owning.setdefault(row["worker"], []).append(row["shard"])
    return [
        {
            "worker": worker,
            "is_older": False,
            "time": max(
                [row["time"] for row in run.find("flushes", "worker", worker)]
                + [(newest_position(run, shard) or {"time": 0})["time"] for shard in shards],
                default=0,
            ),
        }
        for worker, shards in sorted(owning.items())
    ]


async def insert_freeze(
    run: Any,
    freeze: int,
    act: str,
    kind: str,
    what: str,
    declines: bool,
    by: str,
    reason: str,
    time: int,
) -> list[Row]:
    acts = in_force(run.table("freezes").all(run.snapshot))
    same = [row["freeze_number"] for row in acts if (row["kind"], row["what"]) == (kind, what)]
    found = same[0] if same else None
    if (act == "freeze") is (found is not None):
        raise asyncpg.RestrictViolationError(f"{kind} {what} is frozen already, or not frozen")
    row = {
        "freeze_number": freeze, "act": act, "kind": kind, "what": what, "declines": declines,
        "thaws": found, "acted_by": by, "reason": reason, "time": time,
    }  # fmt: skip
    await run.insert("freezes", row)
    return [{"freeze_number": freeze}]


async def blockers(run: Any, pid: int) -> list[Row]:
    database = run.database
    return [{"blocker": database.backends[at].name} for at in database.blocking_pids(pid)]


FREEZING: dict[str, Callable[..., Awaitable[list[Row]]]] = {
    one.__name__: one
    for one in (
        all_owners,
        blockers,
        freezes_to_know,
        insert_freeze,
        insert_released,
        insert_waiting,
        waiting_fields,
        waiting_of_shards,
    )
}
