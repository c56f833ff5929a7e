"""Servers of our own for the length of a command, watched, and with an orderly end."""

import asyncio
import signal
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Final, NoReturn, TypeVar

from engine.commands.init import make_ledger
from engine.commands.progress import spinner
from engine.servers import Addresses, Servers
from engine.servers.postgres_server import ENGINE_ROLE
from engine.store.roles import Login, apply_roles

T = TypeVar("T")

_ENDS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def running_servers(directory: Path) -> Iterator[Servers]:
    """Servers for the length of a block; nothing hurries their end, which takes a second.

    Raises:
        ServerError: When they do not start.
    """
    servers = Servers(directory)
    try:
        with spinner("Starting Postgres and Valkey"):
            servers.start()
        yield servers
    finally:
        before = [signal.signal(end, signal.SIG_IGN) for end in _ENDS]
        with spinner("Stopping Postgres and Valkey"):
            servers.stop()
        for end, handler in zip(_ENDS, before, strict=True):
            signal.signal(end, handler)


async def prepare(servers: Servers, shards: int | None) -> tuple[Addresses, int]:
    """Make the ledger as its owner, and the role that all others use from now on.

    Args:
        servers: Running.
        shards: Of a new ledger; None for the default.

    Returns:
        Where both servers answer, for whoever is not the owner, and how many shards there are.
    """
    owner_dsn = servers.postgres.dsn
    _, count = await make_ledger(owner_dsn, shards)
    password = servers.postgres.engine_password
    login = Login(ENGINE_ROLE, password, ("engine", "creator", "reader"), looks=True)
    await apply_roles(owner_dsn, logins=[login])
    addresses = Addresses(servers.postgres.engine_dsn, servers.valkey.url)
    servers.leave_word(addresses)
    return addresses, count


@contextmanager
def term_as_interrupt() -> Iterator[None]:
    """Where no loop listens, TERM is a Ctrl-C too: both end in an orderly way."""

    def interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


async def run_watched(work: Coroutine[Any, Any, T], watch: Coroutine[Any, Any, None]) -> T:
    """Run `work` to its end, or until `watch` raises, which ends it.

    Args:
        work: What is to be done.
        watch: Looks after what it rests on, for ever.
    """
    watching, working = asyncio.create_task(watch), asyncio.create_task(work)
    try:
        await asyncio.wait([watching, working], return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            await watching
        return await working
    finally:
        for task in (watching, working):
            task.cancel()
        await asyncio.wait([watching, working])
