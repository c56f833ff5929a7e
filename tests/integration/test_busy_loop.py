"""Time in which our own event loop was busy is no silence of Postgres or Redis.

Each bound is made short, and then our loop is busy for longer, with the answer in the socket.
"""

import asyncio
import time
import uuid
from collections.abc import Awaitable
from typing import Any, TypeVar

import pytest
from structlog.testing import capture_logs

from engine.client import reconnecting
from engine.errors import TryAgainError
from engine.store import address as postgres_address
from engine.store import commit, connections, driver
from engine.store.connections import Connections
from engine.store.driver import connect
from engine.streams.address import parse_address
from engine.streams.connection import Connection
from tests.bounds import CONDITION_SECONDS_MAX
from tests.clients import make_accounts, open_client
from tests.desks import batch, desk
from tests.ledgers import Ledger
from tests.proxies import proxied

LIMIT_SECONDS = 1.5
BUSY_SECONDS = 4.0
IDLE_SECONDS = 2.5
"""After which a backend that has answered is taken to be idle for good."""

_T = TypeVar("_T")


async def ask_and_be_busy(asked: Awaitable[_T]) -> _T:
    """What was asked for; as soon as it has left, our loop is busy."""
    asking = asyncio.ensure_future(asked)
    for _ in range(3):
        await asyncio.sleep(0)
    time.sleep(BUSY_SECONDS)  # noqa: ASYNC251 - a long step of this process
    return await asking


async def test_a_read_of_postgres_is_not_given_up(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = Connections(ledger.engine_dsn, uuid.uuid4().bytes)
    await opened.open()
    fresh = await opened.connect()
    monkeypatch.setattr(connections, "STATEMENT_SECONDS_MAX", LIMIT_SECONDS)
    for read in (
        opened.read("ledger_identity"),
        opened.read("ledger_identity", locked=True),
        opened.watch("ledger_identity"),
        opened.ask(fresh, "ledger_identity"),
    ):
        assert await ask_and_be_busy(read)
    fresh.terminate()
    opened.drop()


async def test_a_read_that_is_not_answered_is_given_up(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with proxied(ledger.engine_dsn) as (proxy, dsn):
        opened = Connections(dsn, uuid.uuid4().bytes)
        await opened.open()
        monkeypatch.setattr(connections, "STATEMENT_SECONDS_MAX", LIMIT_SECONDS)
        proxy.silent = True
        with pytest.raises(TryAgainError, match="took over"):
            await asyncio.wait_for(opened.read("ledger_identity"), CONDITION_SECONDS_MAX)
        opened.drop()
        proxy.silent = False


async def test_a_connection_that_is_being_made_is_not_given_up(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (driver, postgres_address):
        monkeypatch.setattr(module, "CONNECT_SECONDS_MAX", LIMIT_SECONDS)
    (await ask_and_be_busy(connect(ledger.engine_dsn, "a busy caller"))).terminate()
    address = parse_address(f"{ledger.redis_url}?socket_connect_timeout={LIMIT_SECONDS}")
    (await ask_and_be_busy(Connection.open(address))).close()


async def test_a_commit_that_was_answered_meanwhile_is_not_cut(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commit, "ASK_SECONDS", LIMIT_SECONDS)
    opened = Connections(ledger.engine_dsn, uuid.uuid4().bytes)
    await opened.open()
    with capture_logs() as logs:
        await ask_and_be_busy(commit.commit_own(opened, opened.writer))
    assert logs == []
    assert not opened.writer.is_closed()
    opened.drop()


async def test_a_commit_that_is_answered_while_it_is_asked_about_is_not_cut(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commit, "ASK_SECONDS", 0.1)
    sleeping: asyncio.Task[object] | None = None

    async def connect_late(*args: Any, **how: Any) -> Any:
        if sleeping is not None:
            await asyncio.wait([sleeping])
            await asyncio.sleep(IDLE_SECONDS)
        return await connect(*args, **how)

    opened = Connections(ledger.engine_dsn, uuid.uuid4().bytes, connect_late)
    await opened.open()
    sleeping = asyncio.create_task(opened.writer.fetchval("SELECT 'late' FROM pg_sleep(1)"))

    async def answer() -> object:
        return await sleeping

    with capture_logs() as logs:
        assert await commit._answer_of(opened, opened.writer, answer(), "what sleeps") == "late"
    assert logs == []
    assert not opened.writer.is_closed()
    opened.drop()


async def test_a_look_up_of_a_client_is_not_given_up(ledger: Ledger) -> None:
    async with open_client(ledger) as client:
        [made] = await make_accounts(client, 1)
        client._store._seconds_max = LIMIT_SECONDS
        [found] = await ask_and_be_busy(client.lookup_accounts([made]))
        assert found.id == made
        client._timeout_seconds = LIMIT_SECONDS
        assert await ask_and_be_busy(client.backlog())


async def test_a_worker_that_is_busy_again_and_again_gives_up_nothing(
    postgres_dsn: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it asks for and does not hear in time it hears after that: nothing begins anew."""
    for module, name in (
        (connections, "STATEMENT_SECONDS_MAX"),
        (driver, "CONNECT_SECONDS_MAX"),
        (postgres_address, "CONNECT_SECONDS_MAX"),
        (commit, "ASK_SECONDS"),
        (reconnecting, "SILENT_SECONDS_MAX"),
    ):
        monkeypatch.setattr(module, name, LIMIT_SECONDS)
    with capture_logs() as logs:
        async with desk(postgres_dsn, redis_url) as at, at.ledger.working() as [worker]:
            for count in range(1, 4):
                await at.send(batch(count * 100))
                for _ in range(20 * count):
                    await asyncio.sleep(0)
                time.sleep(BUSY_SECONDS)  # noqa: ASYNC251 - as above
                await at.answers(count)
            assert worker.statistics.sessions == 1
            assert worker.statistics.conflicts == 0
    assert [log for log in logs if log["log_level"] in {"warning", "error"}] == []
