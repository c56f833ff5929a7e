"""What tests on real servers may ask for."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from engine.servers import Servers
from tests.everything import fill
from tests.ledgers import Ledger, make_ledger
from tests.privileges import Connected


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
