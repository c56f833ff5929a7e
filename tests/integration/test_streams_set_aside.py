"""One bad stream, entry or key stops one shard at most, and that one goes on once it is mended."""

import asyncio
import contextlib
import json
import statistics
import time
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from redis.exceptions import ResponseError

from engine.servers import ValkeyServer
from engine.streams.bounds import ENTRY_KEPT_BYTES_MAX
from engine.worker.worker import Worker
from tests.desks import Desk, account, desk, transfer
from tests.ledgers import until
from tests.proxies import proxied
from tests.verifying import assert_verified

TOP = 2**64 - 1
HIGHEST = 2**63 - 1
C, D = account(1, 1), account(1, 2)
"""At home in shard 1, which is never the spoiled one."""


@pytest.fixture
async def producer(postgres_dsn: str, redis_url: str) -> AsyncIterator[Desk]:
    async with desk(postgres_dsn, redis_url, C, D, shard_count=2) as made:
        yield made


class Honest:
    """Somebody who sends to shard 1 all the time."""

    def __init__(self, producer: Desk) -> None:
        self._producer = producer
        self.sent = 0
        self.seconds: list[float] = []

    async def ask(self) -> None:
        """Send one transfer and wait for its answer."""
        reply = f"{self._producer.ledger.prefix}:answers:honest{self.sent}"
        fields = {"json": json.dumps(transfer(C, D)), "reply": reply}
        began = time.monotonic()
        await self._producer.redis.xadd(self._producer.stream(1), fields)
        self.sent += 1
        [[_, [[_, answer]]]] = await until(
            lambda: self._producer.redis.xread({reply: "0-0"}, block=1000), "an answer"
        )
        assert json.loads(answer[b"outcomes"]) == ["created"]
        self.seconds.append(time.monotonic() - began)

    async def go_on(self) -> None:
        while True:
            await self.ask()
            await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def honest_beside(producer: Desk, turns: int = 20) -> AsyncIterator[Honest]:
    """Another shard is decided all the while, and for some turns after the block."""
    honest = Honest(producer)
    going = asyncio.create_task(honest.go_on())
    try:
        yield honest
        asked = len(honest.seconds)
        await until(lambda: going.done() or len(honest.seconds) >= asked + turns, "others' answers")
    finally:
        if not going.done():
            going.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await going
    median, most = statistics.median(honest.seconds), max(honest.seconds)
    print(f"others' answers: {len(honest.seconds)}, median {median:.3f} s, at most {most:.3f} s")


async def created(producer: Desk, *transfers: dict[str, Any]) -> None:
    wanted = {one["id"] for one in transfers}

    async def all_here() -> bool:
        rows = await producer.ledger.sql("SELECT id::text FROM ledger.transfers")
        return wanted <= {row["id"] for row in rows}

    await until(all_here, f"{len(wanted)} transfers to be created", 60)


async def add(producer: Desk, entry_id: str = "*") -> dict[str, Any]:
    """A transfer in the spoiled stream."""
    made = transfer()
    await producer.redis.xadd(producer.stream(), {"json": json.dumps(made)}, id=entry_id)
    return made


async def buried(producer: Desk, count: int) -> list[Any]:
    async def there() -> Any:
        rows = await producer.ledger.sql("SELECT * FROM ledger.dead_letters ORDER BY ms, seq")
        return rows if len(rows) >= count else None

    rows: list[Any] = await until(there, f"{count} dead letters", 120)
    return rows


async def all_well(producer: Desk, worker: Worker) -> None:
    """The session went on, all shards are read, and what was sent is decided."""
    await until(lambda: not worker.statistics.unread, "all shards to be read")
    made = await add(producer)
    await created(producer, made)
    await producer.drained()
    assert worker.statistics.sessions == 1


@contextlib.asynccontextmanager
async def spoiling(producer: Desk) -> AsyncIterator[Worker]:
    """A worker that works while a block spoils the stream of shard 0, and all is well after it."""
    worker = producer.ledger.worker()
    async with producer.ledger.working(worker):
        async with honest_beside(producer):
            yield worker
        await all_well(producer, worker)
    await assert_verified(producer.ledger)


async def test_poisoned_key_taken(producer: Desk) -> None:
    """Where the name is taken for which a stream is renamed whose ids have ended."""
    ended = f"{producer.stream()}:poisoned"
    async with spoiling(producer):
        await producer.redis.xadd(ended, {"a": "b"})
        await producer.redis.set(f"{ended}:2", "taken too")
        last = await add(producer, f"{TOP}-{TOP}")
        await created(producer, last)
        await created(producer, await add(producer))
        assert [row["fields"] for row in await buried(producer, 1)] == [[b"a", b"b"]]
        assert await producer.redis.get(f"{ended}:2") == b"taken too"


async def test_poisoned_key_taken_for_good(producer: Desk) -> None:
    """Where every such name is taken the shard waits, until somebody makes room."""
    ended = f"{producer.stream()}:poisoned"
    names = [ended, *(f"{ended}:{number}" for number in range(2, 17))]
    async with spoiling(producer) as worker:
        for name in names:
            await producer.redis.set(name, "x")
        last = await add(producer, f"{TOP}-{TOP}")
        await until(
            lambda: "are taken" in getattr(worker.statistics.unread.get(0), "reason", ""),
            "the shard to be set aside",
        )
        await producer.redis.delete(ended)
        await created(producer, last)


async def test_poisoned_twice(producer: Desk) -> None:
    """A second one with the highest id, as soon as there is a stream again that takes it."""
    async with spoiling(producer):
        made = []
        for _ in range(4):
            made.append(await until(partial(try_to_add, producer, "*"), "room in the stream"))
            made.append(await until(partial(try_to_add, producer, f"{TOP}-{TOP}"), "room in it"))
        await created(producer, *made)


async def try_to_add(producer: Desk, entry_id: str) -> dict[str, Any] | None:
    try:
        return await add(producer, entry_id)
    except ResponseError:  # Its ids have come to their end.
        return None


@pytest.mark.parametrize("at", [f"{HIGHEST}-{HIGHEST}", f"{HIGHEST}-0", f"5-{HIGHEST}", f"5-{TOP}"])
async def test_highest_legal_id(producer: Desk, at: str) -> None:
    """Redis and Postgres both know it; what Redis gives after it Postgres does not."""
    async with spoiling(producer):
        made = [await add(producer, at)]
        await created(producer, *made)
        for _ in range(3):
            made.append(await add(producer))
            await created(producer, *made)


@pytest.mark.parametrize("kind", ["string", "list", "hash"])
@pytest.mark.parametrize("when", ["before the start", "while it is read"])
async def test_key_of_another_type(producer: Desk, kind: str, when: str) -> None:
    async def spoil() -> None:
        match kind:
            case "string":
                await producer.redis.set(producer.stream(), "x")
            case "list":
                await producer.redis.rpush(producer.stream(), "x")
            case _:
                await producer.redis.hset(producer.stream(), "x", "y")

    if when == "before the start":
        await spoil()
    async with spoiling(producer) as worker:
        await spoil()
        unread = await until(lambda: worker.statistics.unread.get(0), "the shard to be set aside")
        assert "WRONGTYPE" in unread.reason
        assert unread.since <= time.time()
        await producer.redis.delete(producer.stream())
        await until(lambda: 0 not in worker.statistics.unread, "the shard to be read again")


async def test_stream_lost_below_the_position(producer: Desk) -> None:
    """Deleted while its position is ahead of Redis's clock: what is added then is decided."""
    async with spoiling(producer):
        await created(producer, await add(producer, "5000000000000-0"))
        await producer.redis.delete(producer.stream())
        made = [await add(producer) for _ in range(3)]
        await created(producer, *made)
        await created(producer, await add(producer))
    async with producer.ledger.working():
        await created(producer, await add(producer))
    await assert_verified(producer.ledger)


async def test_stream_lost_below_the_position_while_it_is_written(producer: Desk) -> None:
    """Somebody adds all the while, so that there always is an entry below the position."""
    async with spoiling(producer):
        made = []

        async def go_on() -> None:
            while True:
                made.append(await add(producer))
                await asyncio.sleep(0)

        await created(producer, await add(producer, "5000000000000-0"))
        await producer.redis.delete(producer.stream())
        going = asyncio.create_task(go_on())
        await until(lambda: len(made) > 2000, "many entries")
        going.cancel()
        await created(producer, *made)


async def test_an_entry_below_the_position_beside_newer_ones(producer: Desk) -> None:
    async with spoiling(producer):
        await created(producer, await add(producer))
        await producer.redis.delete(producer.stream())
        made = [await add(producer, "1-1"), await add(producer)]
        await created(producer, *made)


async def test_a_key_that_this_user_may_not_touch(producer: Desk) -> None:
    name, ledger = producer.ledger.prefix, producer.ledger
    acl = f"on >secret ~{name}:transfers:{{0001}}* ~{name}:answers:* ~{name}:ledger +@all"
    await producer.redis.execute_command("ACL", "SETUSER", name, *acl.split())
    plain, ledger.redis_url = ledger.redis_url, ledger.redis_url.replace("//", f"//{name}:secret@")
    try:
        async with spoiling(producer) as worker:
            unread = await until(lambda: worker.statistics.unread.get(0), "it to be set aside")
            assert "NOPERM" in unread.reason or "permission" in unread.reason
            await producer.redis.execute_command("ACL", "SETUSER", name, "allkeys")
        ledger.redis_url = plain
    finally:
        await producer.redis.execute_command("ACL", "DELUSER", name)


async def test_entries_that_may_not_be_deleted(producer: Desk) -> None:
    """The shard is set aside, since what it decides would stay for ever."""
    name, ledger = producer.ledger.prefix, producer.ledger
    url = ledger.redis_url.replace("//", f"//{name}:secret@")
    acl = ["on", ">secret", "~*", "+@all", "-xdel", f"(~{name}:transfers:{{0001}} +xdel)"]
    await producer.redis.execute_command("ACL", "SETUSER", name, *acl)
    plain, ledger.redis_url = ledger.redis_url, url
    try:
        async with spoiling(producer) as worker:
            made = await add(producer)
            await created(producer, made)
            await until(lambda: 0 in worker.statistics.unread, "it to be set aside")
            await producer.redis.execute_command("ACL", "SETUSER", name, "+xdel")
        ledger.redis_url = plain
    finally:
        await producer.redis.execute_command("ACL", "DELUSER", name)


async def test_a_stream_with_groups_that_expires_and_comes_again(producer: Desk) -> None:
    stream = producer.stream()
    async with spoiling(producer):
        made = [await add(producer)]
        await producer.redis.xgroup_create(stream, "strangers", "0", mkstream=True)
        await producer.redis.xreadgroup("strangers", "somebody", {stream: ">"})
        made.append(await add(producer))
        await created(producer, *made)
        await producer.redis.pexpire(stream, 1)
        await until(lambda: gone(producer, stream), "the stream to expire")
        await created(producer, await add(producer))


async def gone(producer: Desk, key: str) -> bool:
    return not await producer.redis.exists(key)


async def test_an_answer_that_has_nowhere_to_go(producer: Desk) -> None:
    """A stream for answers that is a list, or ended, or named oddly."""
    prefix = producer.ledger.prefix
    async with spoiling(producer):
        await producer.redis.rpush(f"{prefix}:answers:list", "x")
        await producer.redis.xadd(f"{prefix}:answers:ended", {"a": "b"}, id=f"{TOP}-{TOP}")
        made = []
        for name in ("list", "ended", "\r\n\0\udcff", "x" * 100_000):
            made.append(transfer())
            reply = f"{prefix}:answers:{name}".encode(errors="surrogateescape")
            fields: Any = {b"json": json.dumps(made[-1]).encode(), b"reply": reply}
            await producer.redis.xadd(producer.stream(), fields)
        await created(producer, *made)


async def test_an_entry_with_a_million_fields(producer: Desk) -> None:
    """It is over the size by its names alone."""
    async with spoiling(producer):
        words = [b"%d" % number for number in range(2_000_000)]
        await producer.redis.execute_command("XADD", producer.stream(), "*", *words)
        [letter] = await buried(producer, 1)
        assert letter["fields"][:4] == [b"0", b"1", b"2", b"3"]
        assert "bytes with all its fields" in letter["reason"]


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
