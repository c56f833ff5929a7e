"""A synchronous standby of an embedded Postgres: a real one, fed by streaming replication."""

import asyncio
import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import asyncpg

from engine.servers import PostgresServer, Servers
from engine.servers.binaries import find_postgres
from engine.servers.identity import choose_identity
from engine.servers.process import run_program
from tests.bounds import CONDITION_SECONDS_MAX
from tests.ledgers import until

NAME = "standby"
SETTINGS = {"shared_buffers": "128MB"}


class Pair(NamedTuple):
    """A primary that confirms no commit without its standby, and a Redis."""

    servers: Servers
    standby: PostgresServer

    async def together(self) -> None:
        """Have both run, and the standby follow."""
        if not self.standby.is_running:
            await asyncio.to_thread(self.standby.start)
        await until(self._follows, "the standby to follow")

    async def _follows(self) -> bool:
        connection = await asyncpg.connect(self.servers.postgres.dsn)
        try:
            found = await connection.fetch(
                "SELECT FROM pg_stat_replication WHERE application_name = $1"
                " AND sync_state = 'sync' AND state = 'streaming'",
                NAME,
            )
        finally:
            await connection.close()
        return bool(found)


@contextlib.contextmanager
def paired(directory: Path) -> Iterator[Pair]:
    """A primary and its standby, both running."""
    with Servers(directory / "primary", postgres_settings=SETTINGS) as servers:
        primary = servers.postgres
        standby = copy_of(primary, directory / "standby")
        asyncio.run(set_confirming(primary, standby))
        try:
            standby.start()
            yield Pair(servers, standby)
        finally:
            asyncio.run(set_confirming(primary, None))
            standby.stop("immediate")


def copy_of(primary: PostgresServer, directory: Path) -> PostgresServer:
    """A standby of a running primary, not yet started."""
    standby = PostgresServer(
        directory, settings={**SETTINGS, "wal_retrieve_retry_interval": "50ms"}
    )
    directory.mkdir(mode=0o700)
    shutil.copy(primary.directory / "password", directory / "password")
    binaries = find_postgres()
    run_as, _ = choose_identity(binaries / "postgres", primary.directory / "data")
    source = ["-d", f"{primary.dsn}?application_name={NAME}"]
    to = ["-D", str(directory / "data"), "-R", "-c", "fast"]
    run_program([str(binaries / "pg_basebackup"), *source, *to], run_as=run_as)
    return standby


async def set_confirming(primary: PostgresServer, standby: PostgresServer | None) -> None:
    """Whether the primary asks its standby to confirm each commit from now on."""
    name = NAME if standby is not None else ""
    connection = await asyncpg.connect(primary.dsn)
    try:
        await connection.execute(f"ALTER SYSTEM SET synchronous_standby_names = '{name}'")
        await connection.execute("SELECT pg_reload_conf()")
    finally:
        connection.terminate()


async def promote(standby: PostgresServer) -> None:
    """Let a standby take writes, and wait until it does."""
    connection = await asyncpg.connect(standby.dsn)
    try:
        promoted = await connection.fetchval(
            "SELECT pg_promote(true, $1)", round(CONDITION_SECONDS_MAX)
        )
    finally:
        connection.terminate()
    assert promoted, "the standby was not promoted"
