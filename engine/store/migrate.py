"""Making the ledger: versioned migrations, each applied once, in one transaction each."""

import re
from importlib.resources import files

import asyncpg

from engine.errors import ConfigurationError
from engine.ledger.nouns import SHARD_COUNT_MAX
from engine.settings import SHARD_COUNT
from engine.store.driver import translated

_NAME = re.compile(r"(\d{4})_(\w+)\.sql")
_LOCK = 0x6C6564676572  # "ledger"


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
            ledger that is there, or the ledger is newer than this program.
        TryAgainError: Postgres is out of reach.
    """
    wanted = shard_count or SHARD_COUNT
    if not 1 <= wanted <= SHARD_COUNT_MAX or wanted & (wanted - 1):
        raise ConfigurationError(
            f"{wanted} shards: give a power of two from 1 to {SHARD_COUNT_MAX}",
        )
    with translated():
        connection = await asyncpg.connect(dsn, timeout=10)
        try:
            async with connection.transaction():
                await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
                return await _apply(connection, wanted, given=shard_count is not None)
        finally:
            await connection.close()


async def _apply(connection: asyncpg.Connection, shard_count: int, *, given: bool) -> list[str]:
    await connection.execute("CREATE SCHEMA IF NOT EXISTS ledger")
    await connection.execute(
        "CREATE TABLE IF NOT EXISTS ledger.migrations (number integer PRIMARY KEY,"
        " name text NOT NULL, applied_at timestamptz NOT NULL DEFAULT clock_timestamp())"
    )
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
