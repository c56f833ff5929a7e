"""Reading the ledger without deciding anything: one snapshot, the driver's own types.

Nothing read here may become part of a decision; workers read through `postgres.py`.
"""

import contextlib
from collections.abc import AsyncIterator, Mapping
from types import MappingProxyType
from typing import Any, Final

import asyncpg

from engine.errors import InvariantBroken
from engine.store.address import where_of
from engine.store.driver import connect_plain
from engine.store.driver_errors import translated

_SETTINGS: Final = {
    "default_transaction_read_only": "on",
    # A reader that goes away, by Ctrl-C say, leaves no long query behind.
    "client_connection_check_interval": "1s",
}


async def connect_reader(
    dsn: str, settings: Mapping[str, str] = MappingProxyType({})
) -> asyncpg.Connection:
    """Connect for reading: ids are `UUID`, times `datetime`, no statement has a time limit.

    Args:
        dsn: `postgresql://...`
        settings: Of the session, in addition to those of every reader.

    Raises:
        TryAgainError: The server cannot be reached.
        ConfigurationError: It refuses.
    """
    return await connect_plain(dsn, "engine reading", {**_SETTINGS, **settings})


@contextlib.asynccontextmanager
async def snapshot(
    dsn: str, settings: Mapping[str, str] = MappingProxyType({}), exported: str | None = None
) -> AsyncIterator[asyncpg.Connection]:
    """One snapshot of the ledger: all that is read in the block is of one moment.

    It takes no lock that a flush would wait for, and waits for none that a flush holds.

    Args:
        dsn: `postgresql://...`
        settings: Of the session, in addition to those of every reader.
        exported: The snapshot of another transaction, which is still open; None for one of its own.

    Raises:
        TryAgainError: The server cannot be reached, or the connection is lost.
        ConfigurationError: It refuses, or there is no ledger in this database.
    """
    connection = await connect_reader(dsn, settings)
    try:
        with translated(where_of(dsn)):
            async with connection.transaction(isolation="repeatable_read", readonly=True):
                if exported is not None:
                    await connection.execute(f"SET TRANSACTION SNAPSHOT '{exported}'")
                yield connection
            await connection.close()
    except BaseException:
        connection.terminate()
        raise


async def export_snapshot(connection: asyncpg.Connection) -> str:
    """The name by which others may read this snapshot, as long as it is open."""
    name: str = await connection.fetchval("SELECT pg_export_snapshot()")
    return name


async def read_damaged(connection: asyncpg.Connection, query: str, *args: Any) -> list[Any]:
    """Read what may be damaged: the snapshot survives values that cannot be computed with.

    Args:
        connection: With a transaction open.
        query: What to read.
        args: Of the query.

    Raises:
        InvariantBroken: A value is out of the range of its arithmetic.
    """
    try:
        async with connection.transaction():
            rows: list[Any] = await connection.fetch(query, *args)
    except asyncpg.DataError as error:
        raise InvariantBroken(f"a stored value cannot be computed with: {error}") from error
    return rows
