"""Freezing and thawing: one transaction in the chains of all owners.

The rows of all owners are locked, and that of `nobody`, in order, so that nothing is under way;
then a row of kind `freeze` goes into each of their chains. What anybody decides after that fails on
its number, and is decided again by somebody who knows of the freeze.
"""

import asyncio
import contextlib
from typing import Any, Final, Literal
from uuid import UUID

import asyncpg
import msgspec

from engine.errors import ConfigurationError, LockHeldError, TryAgainError
from engine.ledger.freezes import FreezeKind
from engine.store.connections import Connect, bounded
from engine.store.driver import connect
from engine.store.driver_errors import check_written, translated
from engine.store.statements import statement

LOCK_ROUNDS_MAX: Final = 20
"""Owners can change while they are locked; then it starts over."""

LOOK_SECONDS: Final = 1.0
"""How often it is looked at who stands in the way."""

MICROSECOND: Final = 1


class FreezeAct(msgspec.Struct, frozen=True):
    """A freeze or a thaw that somebody asks for."""

    act: Literal["freeze", "thaw"]
    kind: FreezeKind
    what: str
    """The id of an account as it is written, else a number."""
    by: str
    reason: str
    declines: bool = False
    """Of a freeze: requests are declined, instead of waiting; of a thaw: what waits is."""


async def set_freeze(dsn: str, act: FreezeAct, connect: Connect = connect) -> int:
    """Freeze or thaw; returns the number of the freeze or thaw once it is in force.

    Args:
        dsn: The Postgres server and database.
        act: What is asked for.
        connect: How to reach the server.

    Raises:
        InputError: It is frozen already, or not frozen.
        ConfigurationError: A worker runs a program that knows of no freezes.
        TryAgainError: Somebody stood in the way, or Postgres is out of reach.
    """
    connection = await connect(dsn, "engine operator")
    watching = await connect(dsn, "engine operator watching")
    try:
        with translated():
            return await _set_freeze(connection, watching, act)
    finally:
        connection.terminate()
        watching.terminate()


async def _set_freeze(
    connection: asyncpg.Connection, watching: asyncpg.Connection, act: FreezeAct
) -> int:
    for _ in range(LOCK_ROUNDS_MAX):
        before = {row["worker"] for row in await _rows(connection, "all_owners")}
        await connection.execute("BEGIN")
        await _lock(connection, watching, sorted(before))
        # The next statement: one that waits for a lock reads what was before.
        owners = await _rows(connection, "all_owners")
        if {row["worker"] for row in owners} <= before:
            number = await _write(connection, owners, act)
            with translated():
                await connection.execute("COMMIT")
            return number
        await connection.execute("ROLLBACK")
    raise TryAgainError("nothing was changed: the owners of the shards kept changing")


async def _lock(
    connection: asyncpg.Connection, watching: asyncpg.Connection, workers: list[bytes]
) -> None:
    """Lock the rows of workers; who stood in the way is named where that takes too long."""
    seen: list[str] = []
    watch = asyncio.ensure_future(_watch(watching, connection.get_server_pid(), seen))
    try:
        async with bounded("locking the owners of all shards"):
            with translated():
                await _rows(connection, "lock_workers", workers)
    except LockHeldError as error:
        who = ", ".join(seen) or "somebody"
        raise TryAgainError(f"nothing was changed: {who} stands in the way; {error}") from error
    finally:
        watch.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watch


async def _watch(watching: asyncpg.Connection, pid: int, seen: list[str]) -> None:
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        rows = await _rows(watching, "blockers", pid)
        if rows:
            seen[:] = [row["blocker"] for row in rows]


async def _write(connection: asyncpg.Connection, owners: list[Any], act: FreezeAct) -> int:
    older = [row["worker"] for row in owners if row["is_older"]]
    if older:
        raise ConfigurationError(
            f"nothing was changed: worker {UUID(bytes=older[0])} was started before the ledger "
            "knew of freezes; start it anew with this program",
        )
    [reserved] = await _rows(connection, "reserve_number")
    [clock] = await _rows(connection, "server_clock")
    number: int = reserved["number"]
    time = max(clock["now"], *(row["time"] + MICROSECOND for row in owners))
    frozen = await _rows(
        connection,
        "insert_freeze",
        number,
        act.act,
        act.kind,
        act.what,
        act.declines,
        act.by,
        act.reason,
        time,
    )
    workers = [row["worker"] for row in owners]
    check_written("ledger.freezes", 1, len(frozen))
    lent = await _rows(connection, "append_lent_flush", workers, "freeze", time, number)
    check_written("ledger.flushes", len(workers), len(lent))
    return number


async def _rows(connection: asyncpg.Connection, name: str, *arguments: Any) -> list[Any]:
    rows: list[Any] = await connection.fetch(statement(name), *arguments)
    return rows


class Frozen(msgspec.Struct, frozen=True):
    """Something that is frozen, and what waits that met this freeze first."""

    freeze_number: int
    kind: str
    what: str
    declines: bool
    by: str
    reason: str
    role: str
    since: str
    entries: int
    transfers: int
    oldest: str | None


async def read_frozen(dsn: str) -> list[Frozen]:
    """All that is frozen, in the order in which it was.

    Raises:
        TryAgainError: Postgres is out of reach.
    """
    connection = await connect(dsn, "engine operator")
    try:
        with translated():
            rows = await _rows(connection, "frozen_now")
        return [msgspec.convert(dict(row), Frozen) for row in rows]
    finally:
        connection.terminate()
