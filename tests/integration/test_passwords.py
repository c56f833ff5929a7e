"""Passwords of the servers: one that is changed is waited for, one that is wrong ends a worker."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from urllib.parse import urlsplit, urlunsplit

import pytest
from structlog.testing import capture_logs

from engine.errors import ConfigurationError
from tests.bounds import CONDITION_SECONDS_MAX
from tests.desks import Desk, batch, desk
from tests.ledgers import Ledger, until


@pytest.fixture
async def at(postgres_dsn: str, redis_url: str) -> AsyncIterator[Desk]:
    async with desk(postgres_dsn, redis_url) as made:
        yield made


async def test_a_password_that_is_changed_meanwhile_is_waited_for(at: Desk) -> None:
    """A worker that was connected does not end: its own address may be the next to be changed."""
    role = f"rotated_{uuid.uuid4().hex[:8]}"
    await at.ledger.sql(f"CREATE ROLE {role} SUPERUSER LOGIN PASSWORD 'first'")
    parts = urlsplit(at.ledger.dsn)
    place = parts.netloc.rpartition("@")[2]
    own = urlunsplit(parts._replace(netloc=f"{role}:first@{place}"))
    worker = Ledger(own, at.ledger.redis_url, at.ledger.prefix, at.ledger.shard_count).worker([0])
    with capture_logs() as logs:
        async with at.ledger.working(worker):
            await at.send(batch(1))
            await at.answers(1)
            await at.ledger.sql(f"ALTER ROLE {role} PASSWORD 'second'")
            await at.ledger.sql(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = $1", role
            )
            await at.send(batch(1))
            await until(lambda: "password authentication" in str(logs), "a refusal")
            await at.ledger.sql(f"ALTER ROLE {role} PASSWORD 'first'")
            await at.answers(2)


async def test_a_password_that_is_wrong_ends_a_worker_at_its_start(at: Desk) -> None:
    parts = urlsplit(at.ledger.dsn)
    wrong = urlunsplit(parts._replace(netloc=f"nobody:wrong@{parts.netloc.rpartition('@')[2]}"))
    worker = Ledger(wrong, at.ledger.redis_url, at.ledger.prefix, at.ledger.shard_count).worker()
    with pytest.raises(ConfigurationError, match="password authentication failed"):
        await asyncio.wait_for(worker.run(), CONDITION_SECONDS_MAX)
