"""Entries that are large, or many, are read so that others are read meanwhile."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from engine.ledger.nouns import Position
from engine.servers import ValkeyServer
from engine.streams.bounds import ENTRY_KEPT_BYTES_MAX
from engine.streams.recovery import Recovery
from engine.streams.sender import Sender, Words
from engine.streams.streams import Streams
from tests.desks import Desk, desk, transfer
from tests.ledgers import until
from tests.proxies import proxied
from tests.spoiling import C, D, add, buried, created, spoiling

TOP = 2**64 - 1


@pytest.fixture
async def own(postgres_dsn: str, tmp_path: Path) -> AsyncIterator[tuple[Desk, ValkeyServer]]:
    """A desk over a Valkey of its own, that may be filled."""
    server = ValkeyServer(tmp_path / "valkey", settings={"appendonly": "no"})
    server.start()
    try:
        async with desk(postgres_dsn, server.url, C, D, shard_count=2) as made:
            yield made, server
    finally:
        server.kill()


@pytest.mark.parametrize("fields", [1, 3], ids=["200 MB in one field", "three times 70 MB"])
async def test_giant_entry(own: tuple[Desk, ValkeyServer], fields: int) -> None:
    """It is a dead letter, of which the beginning is kept; others are read meanwhile."""
    producer, _ = own
    piece = b"x" * (200 * 1024 * 1024 // fields)
    values = {b"json": piece} | {b"other%d" % number: piece for number in range(fields - 1)}
    reply = f"{producer.ledger.prefix}:answers:giant"
    async with spoiling(producer) as worker:
        giant: Any = {b"reply": reply.encode(), b"request": b"7", **values}
        made = [await add(producer)]
        await producer.redis.xadd(producer.stream(), giant)
        made.append(await add(producer))
        await created(producer, *made)
        [letter] = await buried(producer, 1)
        assert sum(map(len, letter["fields"])) == ENTRY_KEPT_BYTES_MAX
        total = sum(len(name) + len(value) for name, value in giant.items())
        assert f"{total:,} bytes" in letter["reason"]
        await until(lambda: producer.redis.xlen(reply), "the answer")
        [[_, answer]] = await producer.redis.xrange(reply)
        assert answer[b"request"] == b"7"
        assert b"bytes" in answer[b"error"]
        assert not worker.statistics.unread


LIMIT = "client-output-buffer-limit"


@contextlib.asynccontextmanager
async def limited(producer: Desk, megabytes: int) -> AsyncIterator[None]:
    """Redis ends a connection for which it keeps more than so much."""
    await producer.redis.config_set(LIMIT, f"normal {megabytes}mb 0 0")
    try:
        yield
    finally:
        await producer.redis.config_set(LIMIT, "normal 0 0 0")


async def test_entries_that_are_together_more_than_redis_keeps_for_a_client(
    own: tuple[Desk, ValkeyServer],
) -> None:
    """The read is lost, whatever its COUNT is, as long as it asks for more than one stream."""
    producer, _ = own
    async with limited(producer, 1), spoiling(producer) as worker:
        made = []
        for number in range(24):
            sent = transfer(C, D) if number % 2 else transfer()
            large = {"json": json.dumps(sent), "other": b"x" * 600_000}
            await producer.redis.xadd(producer.stream(number % 2), large)
            made.append(sent)
        await created(producer, *made)
        assert worker.statistics.sessions == 1


async def test_an_entry_that_is_more_than_redis_keeps_for_a_client(
    own: tuple[Desk, ValkeyServer],
) -> None:
    """Its shard stands and says so, wherever the entry lies; others go on."""
    producer, _ = own
    async with spoiling(producer) as worker:
        first = await add(producer)
        await created(producer, first)
        async with limited(producer, 1):
            made = transfer()
            large = {"json": json.dumps(made), "other": b"x" * 3_000_000}
            await producer.redis.xadd(producer.stream(), large)
            await until(lambda: 0 in worker.statistics.unread, "the shard to be set aside")
            await producer.redis.delete(producer.stream())
            await producer.redis.xadd(producer.stream(), large, id="1-1")
            assert "client-output-buffer-limit" in worker.statistics.unread[0].reason
            await asyncio.sleep(3)
        await created(producer, made)
        assert worker.statistics.sessions == 1


async def test_giant_entries_below_the_position_and_in_an_ended_stream(
    own: tuple[Desk, ValkeyServer],
) -> None:
    producer, _ = own
    giant = {"json": "x" * (40 * 1024 * 1024)}
    async with spoiling(producer):
        await created(producer, await add(producer))
        await producer.redis.delete(producer.stream())
        await producer.redis.xadd(producer.stream(), giant, id="1-1")
        made = [await add(producer)]
        await created(producer, *made)
        await buried(producer, 1)
        await producer.redis.xadd(producer.stream(), giant)
        made.append(await add(producer, f"{TOP}-{TOP}"))
        await created(producer, *made)
        await buried(producer, 2)


async def test_a_bound_of_one_reply_is_no_bound_of_others(own: tuple[Desk, ValkeyServer]) -> None:
    """Two ask over one connection, and the bound of the second is small."""
    producer, server = own
    await producer.redis.set("large", b"x" * (8 * 1024 * 1024))
    sender = Sender(server.url)
    [[value], [echo]] = await asyncio.gather(
        sender.send([("GET", "large")]), sender.send([("ECHO", "here")], reply_bytes_max=1024)
    )
    assert len(value) == 8 * 1024 * 1024
    assert echo == b"here"
    sender.close()


async def test_a_reply_that_is_cut_is_nobody_elses(own: tuple[Desk, ValkeyServer]) -> None:
    """One task looks at a giant entry, while another asks about another stream."""
    producer, server = own
    await producer.redis.xadd(producer.stream(), {"json": b"x" * (40 * 1024 * 1024)}, id="1-1")
    await producer.redis.xadd(producer.stream(1), {"json": "[]"})
    streams = Streams(server.url, producer.ledger.prefix)
    await streams.open()

    async def ask() -> None:
        while not looking.done():
            assert not await streams.recovery.end_stream(1, Position())

    for _ in range(5):
        looking = asyncio.create_task(streams.recovery.look({0: Position(0, 2, 2)}))
        await asyncio.gather(*(ask() for _ in range(4)))
        looks = await looking
        assert looks[0].error is None
    await streams.close()


async def test_a_giant_entry_that_comes_while_its_stream_is_looked_at(
    own: tuple[Desk, ValkeyServer],
) -> None:
    """Between the question how long the stream is, and what an empty one's last id was."""
    producer, server = own
    await producer.redis.delete(producer.stream())

    class Late(Sender):
        async def send_apart(self, commands: Sequence[Words], reply_bytes_max: int | None) -> Any:
            if commands[0][0] == "XINFO":
                await producer.redis.xadd(producer.stream(), {"json": b"x" * (40 * 1024 * 1024)})
            return await super().send_apart(commands, reply_bytes_max)

    senders = Late(server.url), Sender(server.url)
    recovery = Recovery(*senders, producer.ledger.prefix)
    looks = await recovery.look({0: Position(0, 1, 1)})
    assert looks[0].error is None
    assert not looks[0].has_ended
    for sender in senders:
        sender.close()


async def test_large_entries_over_a_slow_link(own: tuple[Desk, ValkeyServer]) -> None:
    """260 of 1 MB at 20 MB/s: as much is asked for at once as comes in good time."""
    producer, _ = own
    filler = "x" * 1_000_000
    async with proxied(producer.ledger.redis_url) as (proxy, through):
        producer.ledger.redis_url = through
        proxy.bytes_per_second = 20e6
        made = [transfer() for _ in range(260)]
        for each in made:
            fields = {"json": json.dumps(each), "trace": filler}
            await producer.redis.xadd(producer.stream(), fields)
        async with spoiling(producer):
            await created(producer, *made)


async def test_flood_of_unreadable_entries(own: tuple[Desk, ValkeyServer]) -> None:
    """A hundred thousand of one byte that are no transfers."""
    producer, _ = own
    async with spoiling(producer):
        for _ in range(100):
            pipeline = producer.redis.pipeline(transaction=False)
            for _ in range(1000):
                pipeline.xadd(producer.stream(), {"x": "y"})
            await pipeline.execute()
        await buried(producer, 100_000)


async def test_an_entry_with_a_million_fields(own: tuple[Desk, ValkeyServer]) -> None:
    """It is over the size by its names alone."""
    producer, _ = own
    async with spoiling(producer):
        words = [b"%d" % number for number in range(2_000_000)]
        await producer.redis.execute_command("XADD", producer.stream(), "*", *words)
        [letter] = await buried(producer, 1)
        assert letter["fields"][:4] == [b"0", b"1", b"2", b"3"]
        assert "bytes with all its fields" in letter["reason"]
