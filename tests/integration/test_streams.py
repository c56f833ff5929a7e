"""Streams that a stranger spoiled: poisoned by a maximal id, trimmed, moved."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis.exceptions import OutOfMemoryError

from engine.servers import ValkeyServer
from tests.desks import A, B, transfer
from tests.ledgers import Ledger, make_ledger, until
from tests.verifying import assert_verified

TOP = 2**64 - 1


@pytest.fixture
async def ledger(postgres_dsn: str, redis_url: str) -> Ledger:
    made = await make_ledger(postgres_dsn, redis_url, shard_count=1)
    await made.sql(
        f"INSERT INTO ledger.accounts (id, ledger, code) VALUES ('{A}', 1, 1), ('{B}', 1, 1)"
    )
    return made


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[ValkeyServer]:
    """A Redis that this test may spoil."""
    server = ValkeyServer(tmp_path / "valkey")
    server.start()
    yield server
    server.stop()


def entry() -> tuple[str, dict[str, Any]]:
    one = transfer()
    return one["id"], {"json": json.dumps(one)}


async def decided(ledger: Ledger, ids: list[str]) -> None:
    async def all_here() -> bool:
        rows = await ledger.sql("SELECT id::text FROM ledger.transfers")
        return {row["id"] for row in rows} == set(ids)

    await until(all_here, f"{len(ids)} transfers")


@pytest.mark.parametrize("top", [f"{TOP}-{TOP}", f"{2**63}-0", f"5000000000000-{2**63}"])
async def test_maximal_id_poison(ledger: Ledger, top: str) -> None:
    """What was added before and with that id is decided, and the stream takes entries again."""
    stream = f"{ledger.prefix}:transfers:{{0000}}"
    ids = []
    async with ledger.redis() as redis:
        for entry_id in ("*", "*", top):
            transfer_id, fields = entry()
            ids.append(transfer_id)
            await redis.xadd(stream, fields, id=entry_id)
        async with ledger.working():
            await decided(ledger, ids)
            for _ in range(3):
                transfer_id, fields = entry()
                ids.append(transfer_id)
                await redis.xadd(stream, fields)
            await decided(ledger, ids)
            transfer_id, fields = entry()
            ids.append(transfer_id)
            await redis.xadd(stream, fields, id=f"{TOP}-{TOP}")  # while it is being read
            await decided(ledger, ids)
        assert not await redis.exists(f"{stream}:poisoned")
    await assert_verified(ledger)


async def test_stranger_trims_the_stream(ledger: Ledger) -> None:
    """What is gone cannot be decided; everything else is, and the shard goes on."""
    stream = f"{ledger.prefix}:transfers:{{0000}}"
    kept = []
    async with ledger.working(), ledger.redis() as redis:
        for turn in range(30):
            transfer_id, fields = entry()
            await redis.xadd(stream, fields)
            if turn % 10 == 9:
                await redis.xtrim(stream, maxlen=0)
        for _ in range(5):
            transfer_id, fields = entry()
            kept.append(transfer_id)
            await redis.xadd(stream, fields)

        async def here() -> bool:
            rows = await ledger.sql("SELECT id::text FROM ledger.transfers")
            return {row["id"] for row in rows} >= set(kept)

        await until(here, "what was added after the trim")
    await assert_verified(ledger)


@pytest.mark.parametrize("last_above", [False, True], ids=["last id below", "last id above"])
async def test_redis_back_with_unread_entries_below_position(
    ledger: Ledger, last_above: bool
) -> None:
    """A Redis that came back older: its entries are decided, and the stream is moved forward."""
    stream = f"{ledger.prefix}:transfers:{{0000}}"
    ids = []
    async with ledger.redis() as redis:
        async with ledger.working():
            transfer_id, fields = entry()
            ids.append(transfer_id)
            await redis.xadd(stream, fields)
            await decided(ledger, ids)
        await redis.delete(stream)
        # Far below the position, which is of this century.
        for entry_id in ("1000-1", "1000-2", *(["*"] if last_above else [])):
            transfer_id, fields = entry()
            ids.append(transfer_id)
            await redis.xadd(stream, fields, id=entry_id)
        async with ledger.working():
            await decided(ledger, ids)
            transfer_id, fields = entry()
            ids.append(transfer_id)
            await redis.xadd(stream, fields)
            await decided(ledger, ids)
            await emptied(redis, stream)
    await assert_verified(ledger)


async def emptied(redis: Any, stream: str) -> None:
    async def empty() -> bool:
        return await redis.xlen(stream) == 0

    await until(empty, f"{stream} to be empty")


async def test_redis_wiped_stream_missing(ledger: Ledger, valkey: ValkeyServer) -> None:
    """A Redis that lost everything takes entries again, and nothing that was decided is lost."""
    ledger.redis_url = valkey.url
    stream = f"{ledger.prefix}:transfers:{{0000}}"
    ids = []
    async with ledger.working():
        for _ in range(3):
            async with ledger.redis() as redis:
                transfer_id, fields = entry()
                ids.append(transfer_id)
                await redis.xadd(stream, fields)
                await decided(ledger, ids)
            await asyncio.to_thread(valkey.kill)
            valkey.wipe()
            await asyncio.to_thread(valkey.start)
    await assert_verified(ledger)


async def test_redis_out_of_memory_answers_refused_deciding_goes_on(
    ledger: Ledger, valkey: ValkeyServer
) -> None:
    ledger.redis_url = valkey.url
    stream, reply = f"{ledger.prefix}:transfers:{{0000}}", f"{ledger.prefix}:answers:a"
    ids = []
    async with ledger.redis() as redis:
        for _ in range(50):
            transfer_id, fields = entry()
            ids.append(transfer_id)
            await redis.xadd(stream, {**fields, "reply": reply})
        await redis.config_set("maxmemory", 1)
        with pytest.raises(OutOfMemoryError):
            await redis.xadd(stream, fields)
        worker = ledger.worker()
        async with ledger.working(worker):
            await decided(ledger, ids)
            await emptied(redis, stream)
            assert not await redis.exists(reply)
            assert worker.statistics.sessions == 1
            await redis.config_set("maxmemory", 0)
            transfer_id, fields = entry()
            await redis.xadd(stream, {**fields, "reply": reply})

            async def answered() -> bool:
                return await redis.xlen(reply) == 1

            await until(answered, "an answer, once there is memory")
    await assert_verified(ledger)


async def test_dead_letter_read_twice(ledger: Ledger) -> None:
    """What cannot be read is kept once, though the worker died before it was deleted."""
    stream = f"{ledger.prefix}:transfers:{{0000}}"
    async with ledger.redis() as redis:
        entry_id = b""
        for turn in range(2):
            entry_id = await redis.xadd(stream, {"json": "{"}, id=entry_id or "*")
            async with ledger.working():
                await emptied(redis, stream)
            rows = await ledger.sql("SELECT fields FROM ledger.dead_letters")
            assert [row["fields"] for row in rows] == [[b"json", b"{"]], turn
            await redis.delete(stream)
    await assert_verified(ledger)


async def test_crash_between_commit_and_trim_answers_nothing_twice(ledger: Ledger) -> None:
    stream, reply = f"{ledger.prefix}:transfers:{{0000}}", f"{ledger.prefix}:answers:a"
    async with ledger.redis() as redis:
        transfer_id, fields = entry()
        async with ledger.working():
            entry_id = await redis.xadd(stream, {**fields, "reply": reply})
            await decided(ledger, [transfer_id])
        await redis.delete(reply)
        # As if the worker had died before it deleted what it had committed.
        await redis.delete(stream)
        await redis.xadd(stream, {**fields, "reply": reply}, id=entry_id)
        async with ledger.working():

            async def trimmed() -> bool:
                return await redis.xlen(stream) == 0

            await until(trimmed, "the entry to be deleted")
        assert not await redis.exists(reply)
    await assert_verified(ledger)
