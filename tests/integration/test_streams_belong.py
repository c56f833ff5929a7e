"""Whose the streams are, and what Redis must be like: asked at opening, and each minute."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from engine.errors import ConfigurationError
from engine.servers import ValkeyServer
from engine.streams.connection import Connection
from engine.streams.server_checks import check_streams_belong, ledger_key
from engine.worker import repair
from tests.bounds import CONDITION_SECONDS_MAX
from tests.desks import Desk, desk
from tests.ledgers import as_user, make_ledger, until
from tests.spoiling import add, created
from tests.verifying import assert_verified


@pytest.fixture
async def own(postgres_dsn: str, tmp_path: Path) -> AsyncIterator[tuple[Desk, ValkeyServer]]:
    """A desk over a Valkey of its own."""
    server = ValkeyServer(tmp_path / "valkey")
    server.start()
    try:
        async with desk(postgres_dsn, server.url) as made:
            yield made, server
    finally:
        server.kill()


async def test_two_ledgers_on_one_prefix(postgres_dsn: str, redis_url: str) -> None:
    """The second is refused, whichever was first, and answers nobody; a client is told too."""
    async with desk(postgres_dsn, redis_url) as producer:
        async with producer.ledger.working():
            await created(producer, await add(producer))
        other = await make_ledger(postgres_dsn, redis_url, shard_count=1)
        other.prefix = producer.ledger.prefix
        made = await add(producer)
        worker = other.worker()
        with pytest.raises(ConfigurationError, match=r"another ledger.*ENGINE_PREFIX"):
            await asyncio.wait_for(worker.run(), CONDITION_SECONDS_MAX)
        connection = await Connection.open(redis_url)
        with pytest.raises(ConfigurationError, match="another ledger"):
            await check_streams_belong(connection, other.prefix, "another's identity")
        [row] = await producer.ledger.sql("SELECT identity::text FROM ledger.settings")
        await check_streams_belong(connection, other.prefix, row["identity"])
        connection.close()
        async with producer.ledger.working():
            await created(producer, made)
        await assert_verified(producer.ledger)


async def test_a_wiped_redis_is_given_the_identity_anew(
    own: tuple[Desk, ValkeyServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repair, "CHECK_SECONDS", 0.1)
    producer, _ = own
    key = ledger_key(producer.ledger.prefix)
    async with producer.ledger.working() as [worker]:
        identity = await producer.redis.get(key)
        assert identity == str(worker.streams.ledger_id).encode()
        await producer.redis.flushall()
        await until(lambda: producer.redis.exists(key), "the key to be there again")
        assert await producer.redis.get(key) == identity
        await created(producer, await add(producer))
        # Another ledger's, by a mistake of somebody's: nothing is answered until it is mended.
        await producer.redis.set(key, "another")
        await until(lambda: 0 in worker.statistics.unread, "the shard to be set aside")
        made = await add(producer)
        await asyncio.sleep(1)
        assert await producer.count() == 1
        await producer.redis.delete(key)
        await created(producer, made)
        assert worker.statistics.sessions == 1
        # Of another type: nobody is helped by a worker that stands still.
        await producer.redis.delete(key)
        await producer.redis.rpush(key, "x")
        await created(producer, await add(producer))


async def test_a_redis_that_forgets_is_refused(
    own: tuple[Desk, ValkeyServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the start; and where it is changed later nothing more is read until it is mended."""
    monkeypatch.setattr(repair, "CHECK_SECONDS", 0.1)
    producer, _ = own
    await producer.redis.config_set("maxmemory-policy", "allkeys-lru")
    with pytest.raises(ConfigurationError, match=r"maxmemory-policy is allkeys-lru.*noeviction"):
        await asyncio.wait_for(producer.ledger.worker().run(), CONDITION_SECONDS_MAX)
    await producer.redis.config_set("maxmemory-policy", "noeviction")
    async with producer.ledger.working() as [worker]:
        await producer.redis.config_set("maxmemory-policy", "volatile-ttl")
        unread = await until(lambda: worker.statistics.unread.get(0), "it to be set aside")
        assert "volatile-ttl" in unread.reason
        made = await add(producer)
        await asyncio.sleep(1)
        assert await producer.count() == 0
        await producer.redis.config_set("maxmemory-policy", "noeviction")
        await created(producer, made)
    await assert_verified(producer.ledger)


async def test_a_user_who_may_touch_streams_alone(own: tuple[Desk, ValkeyServer]) -> None:
    """What cannot be asked is not held against Redis."""
    producer, _ = own
    prefix, ledger = producer.ledger.prefix, producer.ledger
    acl = f"on >secret ~{prefix}:transfers:* ~{prefix}:answers:* +@all -info -get -set"
    await producer.redis.execute_command("ACL", "SETUSER", "streams", *acl.split())
    plain, ledger.redis_url = ledger.redis_url, as_user(ledger.redis_url, "streams")
    async with ledger.working() as [worker]:
        await created(producer, await add(producer))
        assert not worker.statistics.unread
    ledger.redis_url = plain


async def test_whether_it_persists_is_shown(own: tuple[Desk, ValkeyServer]) -> None:
    producer, _ = own
    worker = producer.ledger.worker()
    await worker.streams.open()
    facts = await worker.streams.describe()
    await worker.streams.close()
    assert facts["maxmemory_policy"] == "noeviction"
    assert facts["aof_enabled"] == "1"
