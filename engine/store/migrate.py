"""Making the ledger: versioned migrations, each applied once, in one transaction each."""

import asyncio
import re
import time
from importlib.resources import files
from typing import Final

import asyncpg

from engine.errors import ConfigurationError, ConflictError, TryAgainError
from engine.ledger.nouns import SHARD_COUNT_MAX
from engine.settings import SHARD_COUNT
from engine.store.address import where_of
from engine.store.driver import connect
from engine.store.driver_errors import translated
from engine.store.ledger_checks import check_outcomes
from engine.store.roles import MIGRATIONS_LOCK, check_owner, grant_again
from engine.store.statements import statement

_NAME = re.compile(r"(\d{4})_(\w+)\.sql")

LOCK_SECONDS: Final = 2.0
"""So long a migration waits for a lock, and flushes wait behind it; then it tries again."""

PAUSE_SECONDS: Final = 0.5
"""In between, in which they go on."""

MIGRATE_SECONDS_MAX: Final = 600.0
"""How long it is tried."""


def migrations() -> list[tuple[int, str, str]]:
    """All migrations in order: number, name, text."""
    found = []
    for file in (files("engine.store") / "migrations").iterdir():
        match = _NAME.fullmatch(file.name)
        if match:
            found.append((int(match[1]), match[2], file.read_text()))
    return sorted(found)


async def migrate(dsn: str, shard_count: int | None = None) -> list[str]:
    """Bring the schema `ledger` up to date; safe to repeat, also at the same time.

    Args:
        dsn: The Postgres server and database.
        shard_count: For a new ledger (that of `engine.settings` where None). It never changes.

    Returns:
        The migrations that were applied now; none where all had been.

    Raises:
        ConfigurationError: `shard_count` is no power of two up to 1024, is not that of the
            ledger that is there, the ledger is newer than this program, or the role of `dsn` does
            not own it.
        TryAgainError: Postgres is out of reach.
    """
    wanted = shard_count or SHARD_COUNT
    if not 1 <= wanted <= SHARD_COUNT_MAX or wanted & (wanted - 1):
        raise ConfigurationError(
            f"{wanted} shards: give a power of two from 1 to {SHARD_COUNT_MAX}",
        )
    deadline = time.monotonic() + MIGRATE_SECONDS_MAX
    while True:
        connection = await connect(dsn, "engine init", statement_seconds_max=None)
        try:
            with translated(where_of(dsn)):
                applied = await _migrate(connection, wanted, given=shard_count is not None)
                await connection.close()
        except ConflictError as error:
            # Another is migrating, or somebody holds a table: workers go on in between.
            if time.monotonic() > deadline:
                raise TryAgainError(
                    f"the tables of the ledger were held by others for {MIGRATE_SECONDS_MAX:.0f} s "
                    "and nothing was changed; see who in pg_stat_activity and pg_locks",
                ) from error
            await asyncio.sleep(PAUSE_SECONDS)
        else:
            return applied
        finally:
            connection.terminate()


async def _migrate(connection: asyncpg.Connection, shard_count: int, *, given: bool) -> list[str]:
    """All in one transaction, whose locks are waited for so shortly that no flush notices."""
    await check_owner(connection)
    await connection.execute(f"SET lock_timeout = '{LOCK_SECONDS:g}s'")
    async with connection.transaction():
        applied = await _apply(connection, shard_count, given=given)
        await grant_again(connection)
        await check_outcomes(lambda name: connection.fetch(statement(name)))
    return applied


async def _apply(connection: asyncpg.Connection, shard_count: int, *, given: bool) -> list[str]:
    if await connection.fetchval("SELECT to_regclass('ledger.migrations') IS NULL"):
        await connection.execute("CREATE SCHEMA IF NOT EXISTS ledger")
        await connection.execute(
            "CREATE TABLE IF NOT EXISTS ledger.migrations (number integer PRIMARY KEY,"
            " name text NOT NULL, applied_at timestamptz NOT NULL DEFAULT clock_timestamp())"
        )
    await connection.execute(MIGRATIONS_LOCK)
    done = {r["number"] for r in await connection.fetch("SELECT number FROM ledger.migrations")}
    known = migrations()
    newer = done - {number for number, _, _ in known}
    if newer:
        raise ConfigurationError(
            f"the ledger has migration {max(newer)}, which this program does not know; "
            "use the program that made it or a newer one",
        )
    if done and given:
        there = await connection.fetchval("SELECT shard_count FROM ledger.settings")
        if there != shard_count:
            raise ConfigurationError(
                f"the ledger has {there} shards, not {shard_count}; that never changes",
            )
    applied = []
    for number, name, text in known:
        if number not in done:
            await connection.execute(text.replace(":shard_count", str(shard_count)))
            await connection.execute(
                "INSERT INTO ledger.migrations (number, name) VALUES ($1, $2)", number, name
            )
            applied.append(f"{number:04d}_{name}")
    return applied
