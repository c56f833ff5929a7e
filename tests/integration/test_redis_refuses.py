"""What Redis says while it cannot be used: what passes is waited for, what is final is said."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from engine.errors import ConfigurationError, TryAgainError
from engine.servers import ValkeyServer
from engine.streams.bounds import LINK_SECONDS_MAX
from engine.streams.connection import Connection
from engine.streams.sender import Sender
from tests.bounds import CONDITION_SECONDS_MAX
from tests.desks import Desk, batch, desk
from tests.ledgers import until
from tests.proxies import proxied
from tests.spoiling import C, D, add, created
from tests.verifying import assert_verified

SILENT_SECONDS = 0.5
SLEPT_SECONDS = 14
BUSY_SECONDS = 2.0


@pytest.fixture
async def producer(postgres_dsn: str, redis_url: str) -> AsyncIterator[Desk]:
    async with desk(postgres_dsn, redis_url, C, D, shard_count=2) as made:
        yield made


PASSING = [
    "LOADING Redis is loading the dataset in memory",
    "BUSY Redis is busy running a script",
    "MISCONF Redis is configured to save RDB snapshots, but it's unable to persist to disk",
    "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
    "CLUSTERDOWN The cluster is down",
    "READONLY You can't write against a read only replica.",
    "TRYAGAIN Multiple keys request during rehashing of slot",
    "OOM command not allowed when used memory > 'maxmemory'.",
    "ERR max number of clients reached",
    "ERR max number of clients + cluster connections reached",
    "NOREPLICAS Not enough good replicas to write.",
    "UNBLOCKED force unblock from blocking operation, instance state changed",
    "ERR something that nobody has heard of",
]


@pytest.mark.parametrize("word", PASSING, ids=lambda word: word[:30].replace(" ", "_"))
async def test_redis_refuses_for_a_while(producer: Desk, word: str) -> None:
    """At any command and at connecting: the worker waits, and goes on."""
    async with proxied(producer.ledger.redis_url) as (proxy, through):
        producer.ledger.redis_url = through
        proxy.refusal = word
        worker = producer.ledger.worker()
        running = asyncio.create_task(worker.run())
        try:
            for _ in range(2):
                await asyncio.sleep(0.3)
                assert not running.done()
                proxy.refusal = None
                made = await add(producer)
                await created(producer, made)
                proxy.refusal = word
        finally:
            proxy.refusal = None
            worker.stop()
            await running
    await assert_verified(producer.ledger)


FINAL = [
    "NOAUTH Authentication required.",
    "WRONGPASS invalid username-password pair or user is disabled.",
    "NOPERM User default has no permissions to run the 'ping' command",
    "ERR unknown command 'PING'",
    "ERR invalid password",
    "DENIED Redis is running in protected mode",
    "NOPROTO unsupported protocol version",
]


@pytest.mark.parametrize("word", FINAL, ids=lambda word: word[:30].replace(" ", "_"))
async def test_what_is_final_ends_a_worker_at_its_start(producer: Desk, word: str) -> None:
    """With what Redis said, and where it is; without the password."""
    async with proxied(producer.ledger.redis_url) as (proxy, through):
        producer.ledger.redis_url = through
        proxy.refusal = word
        place = through.rpartition("@")[2].removeprefix("redis://").partition("/")[0]
        with pytest.raises(ConfigurationError) as refused:
            await asyncio.wait_for(producer.ledger.worker().run(), CONDITION_SECONDS_MAX)
        assert word in str(refused.value)
        assert place in str(refused.value)


async def test_a_read_that_a_stranger_unblocks_is_an_empty_one(producer: Desk) -> None:
    """Again and again, by CLIENT UNBLOCK with an error: no session ends."""
    worker = producer.ledger.worker()
    async with producer.ledger.working(worker):
        for _ in range(50):
            for client in await producer.redis.client_list():
                if client["cmd"] == "xread":
                    await producer.redis.execute_command("CLIENT", "UNBLOCK", client["id"], "ERROR")
            await asyncio.sleep(0.01)
        await created(producer, await add(producer))
    assert worker.statistics.sessions == 1


async def test_a_redis_that_is_full_of_clients(producer: Desk) -> None:
    """As Redis itself says it, while it is connected to."""
    worker = producer.ledger.worker()
    async with producer.ledger.redis() as redis:
        await redis.config_set("maxclients", 1)
        try:
            running = asyncio.create_task(worker.run())
            await asyncio.sleep(0.5)
            assert not running.done()
        finally:
            await redis.config_set("maxclients", 10_000)
        await created(producer, await add(producer))
    worker.stop()
    await running


async def test_time_in_which_this_process_was_busy_is_not_redis_being_silent(
    redis_url: str,
) -> None:
    connection = await Connection.open(redis_url)
    asked = asyncio.create_task(connection.ask(b"PING"))
    await asyncio.sleep(0)
    time.sleep(BUSY_SECONDS)  # noqa: ASYNC251 - a long step of this process
    assert connection.silent_seconds() == 0
    assert await asked == b"PONG"
    blocked = asyncio.create_task(connection.ask(b"BLPOP", b"silence", b"60"))
    await until(lambda: connection.silent_seconds() >= SILENT_SECONDS, "silence to be noticed")
    connection.abort()
    with pytest.raises(TryAgainError):
        await blocked


async def test_a_sender_outlives_a_long_step_of_this_process(redis_url: str) -> None:
    sender = Sender(redis_url, silent_seconds_max=SILENT_SECONDS)
    for _ in range(3):
        sent = asyncio.create_task(sender.send([("PING",)]))
        await asyncio.sleep(0)
        time.sleep(BUSY_SECONDS)  # noqa: ASYNC251 - as above
        assert await sent == [b"PONG"]
    sender.close()


async def test_a_redis_that_does_one_thing_for_long_ends_no_session(
    postgres_dsn: str, tmp_path: Path
) -> None:
    """As while it writes an entry of a gigabyte to its AOF: nobody is answered, and we wait."""
    server = ValkeyServer(tmp_path / "valkey", settings={"enable-debug-command": "local"})
    server.start()
    try:
        async with desk(postgres_dsn, server.url, shard_count=2) as at:
            async with at.ledger.working() as [worker]:
                busy = at.redis.execute_command("DEBUG", "SLEEP", SLEPT_SECONDS)
                sleeping = asyncio.ensure_future(busy)
                await asyncio.sleep(0)
                await at.send(batch(1))
                await at.answers(1)
                await sleeping
                assert worker.statistics.sessions == 1
            await assert_verified(at.ledger)
    finally:
        server.kill()


async def test_a_link_that_is_dead_is_noticed_by_the_system(redis_url: str) -> None:
    connection = await Connection.open(redis_url)
    link = connection._transport.get_extra_info("socket")
    milliseconds = link.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
    assert milliseconds == LINK_SECONDS_MAX * 1000
    connection.close()


async def test_a_cancelled_command_shifts_no_answer(redis_url: str) -> None:
    connection, sender = await Connection.open(redis_url), Sender(redis_url)
    for number in range(100):
        asked = asyncio.create_task(connection.ask(b"ECHO", b"given up"))
        sent = asyncio.create_task(sender.send([("ECHO", "given up")]))
        for _ in range(number % 4):
            await asyncio.sleep(0)
        asked.cancel()
        sent.cancel()
        assert await connection.ask(b"ECHO", b"%d" % number) == b"%d" % number
        assert await sender.send([("ECHO", number)]) == [b"%d" % number]
    connection.close()
    sender.close()
