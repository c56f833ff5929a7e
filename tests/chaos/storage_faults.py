"""What goes wrong with what servers keep: wiped, older, full, and another password."""

import asyncio
import secrets
import shutil
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import asyncpg

from tests.chaos.faults import World, fault

BALLAST_BYTES: Final = 1 << 20
"""Written at once while a disk is filled."""


@fault(1)
async def valkey_wiped(world: World) -> None:
    """Valkey is killed and comes back with nothing."""
    world.say("Valkey is killed, wiped, and started")
    await asyncio.to_thread(world.servers.valkey.kill)
    await asyncio.to_thread(shutil.rmtree, _data_of_valkey(world))
    await asyncio.to_thread(world.servers.valkey.start)


@fault(1)
async def valkey_older(world: World) -> None:
    """As after a failover to a replica that was behind: it lacks the newest seconds."""
    seconds = world.lasts_seconds()
    world.say(f"Valkey loses its last {seconds:.1f} s, as by a failover")
    data = _data_of_valkey(world)
    older = data.with_name("older")
    # Files that are written meanwhile are cut short: what it then loads is what it had of them.
    await asyncio.to_thread(shutil.copytree, data, older)
    await asyncio.sleep(seconds)
    await asyncio.to_thread(world.servers.valkey.kill)
    await asyncio.to_thread(shutil.rmtree, data)
    await asyncio.to_thread(older.rename, data)
    await asyncio.to_thread(world.servers.valkey.start)


def _data_of_valkey(world: World) -> Path:
    return world.servers.valkey.directory / "data"


@fault(1)
async def password_rotated(world: World) -> None:
    """The workers' role has another password for a while, and who is connected is cut off."""
    seconds = world.lasts_seconds()
    world.say(f"the workers' password is another for {seconds:.1f} s, and they are cut off")
    parts = urlsplit(world.ledger.engine_dsn)
    assert parts.username is not None
    connection = await asyncpg.connect(world.ledger.dsn)
    try:
        await _set_password(connection, parts.username, secrets.token_hex(8))
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name LIKE 'engine %' AND datname = current_database()"
        )
        await asyncio.sleep(seconds)
    finally:
        assert parts.password is not None
        await _set_password(connection, parts.username, parts.password)
        await connection.close()


async def _set_password(connection: asyncpg.Connection, role: str, password: str) -> None:
    await connection.execute(f"ALTER ROLE \"{role}\" PASSWORD '{password}'")


@fault(1)
async def disk_full(world: World) -> None:
    """Nothing more can be written by either server; Postgres may end over it."""
    if not world.is_on_small_disk:
        return
    seconds = world.lasts_seconds()
    world.say(f"the disk is full for {seconds:.1f} s")
    ballast = world.servers.valkey.directory / "ballast"
    await asyncio.to_thread(_fill, ballast)
    await asyncio.sleep(seconds)
    ballast.unlink()
    for server in (world.servers.postgres, world.servers.valkey):
        if not server.is_running:
            world.say("  a server ended over it, and is started")
            await asyncio.to_thread(server.start)


def _fill(ballast: Path) -> None:
    size = BALLAST_BYTES
    with ballast.open("wb", buffering=0) as file:
        while size:
            try:
                file.write(bytes(size))
            except OSError:
                size //= 2
