"""One bad stream or key stops one shard at most, and that one goes on once it is mended."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import pytest
from redis.exceptions import ResponseError

from engine.operating.health import gather_status
from engine.servers import Addresses
from tests.desks import Desk, desk, transfer
from tests.ledgers import as_user, until
from tests.spoiling import C, D, add, buried, created, spoiling
from tests.verifying import assert_verified

TOP = 2**64 - 1
HIGHEST = 2**63 - 1


@pytest.fixture
async def producer(postgres_dsn: str, redis_url: str) -> AsyncIterator[Desk]:
    async with desk(postgres_dsn, redis_url, C, D, shard_count=2) as made:
        yield made


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


@pytest.mark.parametrize("when", ["before the start", "while it is read"])
async def test_highest_legal_id_with_others_behind_it(producer: Desk, when: str) -> None:
    """Of an id that the ledger cannot store only the second part; so Redis takes more after it."""
    made = [await add(producer)] if when == "before the start" else []
    for ms in (4_000_000_000_000, 5_000_000_000_000):
        made += [await add(producer, f"{ms}-{TOP}")] if when == "before the start" else []
    async with spoiling(producer):
        for ms in (6_000_000_000_000, 7_000_000_000_000):
            made += [await add(producer, f"{ms}-{TOP}"), await add(producer)]
        await created(producer, *made)
        await created(producer, await add(producer))


async def test_highest_legal_id_below_the_position_with_others_behind_it(producer: Desk) -> None:
    async with spoiling(producer):
        await created(producer, await add(producer, "5000000000000-0"))
        await producer.redis.delete(producer.stream())
        made = [await add(producer, f"7-{TOP}"), await add(producer), await add(producer)]
        await created(producer, *made)


async def test_dead_letters_of_one_id_are_kept_each(producer: Desk) -> None:
    """As a stream is begun anew an id can come again, for something else."""
    async with spoiling(producer):
        for place in range(6):
            entry_id, fields = f"{TOP}-{TOP}" if place < 3 else "5-5", {"x": f"{place}"}
            await producer.redis.delete(producer.stream())
            await producer.redis.xadd(producer.stream(), fields, id=entry_id)
            await until(partial(is_empty, producer), "the entry to be decided")
            # What is decided twice is deleted twice: here after all of that.
            await created(producer, await add(producer))
        letters = await buried(producer, 6)
        assert len({row["fields"][1] for row in letters}) == 6


async def is_empty(producer: Desk) -> bool:
    names = [producer.stream(), f"{producer.stream()}:poisoned"]
    return not any([await producer.redis.xlen(name) for name in names])


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
    plain, ledger.redis_url = ledger.redis_url, as_user(ledger.redis_url, name)
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
    url = as_user(ledger.redis_url, name)
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


async def test_status_says_which_stream_cannot_be_read_and_why(producer: Desk) -> None:
    await producer.redis.set(producer.stream(), "x")
    ledger = producer.ledger
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ENGINE_PREFIX", ledger.prefix)
        status = await gather_status(Addresses(ledger.dsn, ledger.redis_url), 10)
    [problem] = [each.problem for each in status.problems if "cannot be read" in each.problem]
    assert "shards 0 " in problem
    assert "WRONGTYPE" in problem
    assert [shard.waiting for shard in status.shards] == [None, 0]
