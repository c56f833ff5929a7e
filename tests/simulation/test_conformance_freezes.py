"""Freezes, and what waits for them, read the same in memory and in a real Postgres."""

import uuid
from typing import Any

import asyncpg
import pytest

from engine.ledger.nouns import ID_ZERO
from tests.ledgers import make_ledger
from tests.simulation.sides import TIME, Memory, Real, Side, run

MINE = uuid.UUID(int=77).bytes
ACCOUNT = str(uuid.UUID(int=5))
IDS = [uuid.UUID(int=number).bytes for number in (1, 2, 3)]


async def act(
    connection: Any, number: int, verb: str, kind: str, what: str, *, declines: bool = False
) -> None:
    """A freeze or thaw as the command does it."""
    await connection.execute("BEGIN")
    owners = await run(connection, "all_owners")
    workers = [row["worker"] for row in owners]
    await run(connection, "lock_workers", workers)
    row = (number, verb, kind, what, declines, "me", "a test", TIME + number)
    await run(connection, "insert_freeze", *row)
    await run(connection, "append_lent_flush", workers, "freeze", TIME + number, number)
    await connection.execute("COMMIT")


async def frozen(side: Side) -> list[Any]:
    """A story of freezes; returns what is read of it."""
    connection = await side.connect()
    await run(connection, "register_worker", MINE, "host", 1, 60.0, [0, 1])
    await run(connection, "change_owner", [0, 1], ID_ZERO, MINE, 900)
    read: list[Any] = [await run(connection, "ownership", MINE)]
    await act(connection, 1001, "freeze", "account", ACCOUNT)
    await act(connection, 1002, "freeze", "shard", "1", declines=True)
    read += [await run(connection, "all_owners"), await run(connection, "ownership", MINE)]
    places = ([0, 0, 1], [0, 0, 4], [5, 6, 7], [0, 1, 2])
    await run(
        connection,
        "insert_waiting",
        1003,
        *places,
        [1001, 1001, 1002],
        [2, 1, 1],
        [10, 20, 30],
        [b"d", b"d", b"e"],
        [None, 0, None],
        [None, 5, None],
        [None, 0, None],
        [1, 1, 3],
        IDS,
        [1, 1, 2, 2, 3],
        [b"json", b"[]", b"reply", b"r", b"mp"],
    )
    read += [await waiting(connection), await run(connection, "freezes_to_know", [1001], 0)]
    await act(connection, 1004, "thaw", "account", ACCOUNT, declines=True)
    await run(connection, "insert_released", 1005, [0], [0], [5], [0])
    read += [
        await waiting(connection),
        await run(connection, "freezes_to_know", [1002], 1003),
        await run(connection, "freezes_to_know", [1002], 1004),
        await run(connection, "ownership", MINE),
        [row["newest_freeze"] for row in await run(connection, "look_at_shards")],
    ]
    return read


async def waiting(connection: Any) -> list[Any]:
    rows = await run(connection, "waiting_of_shards", [0, 1])
    fields = await run(connection, "waiting_fields", 0, [0, 0, 0], [5, 6, 9], [0, 1, 9])
    return [
        sorted(rows, key=lambda row: (row["shard"], row["ms"])),
        sorted(fields, key=lambda row: row["ms"]),
    ]


async def test_freezes_and_what_waits_read_the_same_on_both_sides(postgres_dsn: str) -> None:
    sides: list[Side] = [Memory(), Real(await make_ledger(postgres_dsn, "", shard_count=4))]
    in_memory, in_postgres = [await frozen(side) for side in sides]
    for side in sides:
        side.close()
    assert in_memory == in_postgres


@pytest.mark.parametrize("real", [False, True], ids=["in memory", "in Postgres"])
async def test_an_entry_waits_and_is_released_once_on_both_sides(
    real: bool, postgres_dsn: str
) -> None:
    side = Real(await make_ledger(postgres_dsn, "", shard_count=4)) if real else Memory()
    connection = await side.connect()
    await act(connection, 1001, "freeze", "ledger", "1")
    with pytest.raises(asyncpg.RestrictViolationError):
        await act(connection, 1002, "freeze", "ledger", "1")
    await connection.execute("ROLLBACK")
    columns = ([0], [0], [5], [0], [1001], [0], [1], [b"d"], [None], [None], [None])
    entry = (1003, *columns, [], [], [], [])
    await run(connection, "insert_waiting", *entry)
    with pytest.raises(asyncpg.UniqueViolationError):
        await run(connection, "insert_waiting", *entry)
    await run(connection, "insert_released", 1004, [0], [0], [5], [0])
    with pytest.raises(asyncpg.UniqueViolationError):
        await run(connection, "insert_released", 1005, [0], [0], [5], [0])
    side.close()
