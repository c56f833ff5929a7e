"""What tests on real servers may ask for."""

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from engine.servers import Servers
from engine.servers.valkey_server import ValkeyServer
from engine.worker.worker import Worker
from tests.everything import fill
from tests.ledgers import Ledger, make_ledger
from tests.machines import Machine, open_machine
from tests.on_call import OnCall, Watch, on_call
from tests.privileges import Connected
from tests.promtool import NoPackageError, find_promtool


@pytest.fixture(autouse=True)
def roomy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of each disk is free, however full this machine's is: it is not what is tested."""

    def usage(path: str) -> Any:
        total, _, _ = found = shutil.disk_usage(path)
        return found._replace(used=total // 2, free=total // 2)

    monkeypatch.setattr("engine.operating.facts.disk_usage", usage)


@pytest.fixture
async def ledger(postgres_dsn: str, redis_url: str) -> Ledger:
    """A new ledger of 16 shards, without accounts."""
    return await make_ledger(postgres_dsn, redis_url)


@pytest.fixture(scope="session")
def full_ledger(servers: Servers) -> Ledger:
    """A ledger with one of everything in it; who breaks something there takes it back."""

    async def make() -> Ledger:
        made = await make_ledger(servers.postgres.dsn, servers.valkey.url)
        await fill(made)
        return made

    return asyncio.run(make())


@pytest.fixture
async def connected() -> AsyncIterator[Connected]:
    """Connects, as many times as a test wants, until its end."""
    made: list[asyncpg.Connection] = []

    async def connect(dsn: str, **how: Any) -> asyncpg.Connection:
        made.append(await asyncpg.connect(dsn, **how))
        return made[-1]

    yield connect
    for connection in made:
        connection.terminate()


@pytest.fixture(scope="module")
def other_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer]:
    """Another Valkey than that of all ledgers."""
    server = ValkeyServer(tmp_path_factory.mktemp("other"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def machine() -> Iterator[Machine]:
    """A machine whose disk or clock can go wrong."""
    with open_machine() as made:
        yield made


@pytest.fixture(scope="session")
def promtool(tmp_path_factory: pytest.TempPathFactory) -> str | None:
    """The program; None where there is none and none can be had."""
    try:
        return find_promtool(tmp_path_factory.mktemp("promtool"))
    except NoPackageError:
        return None


@pytest.fixture
def watch(promtool: str | None, tmp_path: Path) -> Watch:
    """Has somebody on call, for a ledger that is well so far."""

    @contextlib.asynccontextmanager
    async def watching(ledger: Ledger, *workers: Worker) -> AsyncIterator[OnCall]:
        async with on_call(ledger, promtool, tmp_path, *workers) as night:
            await night.begin()
            yield night

    return watching
