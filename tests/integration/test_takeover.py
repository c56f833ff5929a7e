"""Workers that freeze, or hear nothing, in the middle of a flush: taken over.

They are harmless when they are back. Each is a process, stopped by SIGSTOP where a proxy holds
back what it sends.
"""

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from engine.settings import WorkerSettings
from engine.worker.worker import Worker
from tests.bounds import CONDITION_SECONDS_MAX, UNAIDED_SECONDS_MAX
from tests.desks import Desk, account, batch, desk, transfer
from tests.ledgers import until
from tests.processes import WorkerProcess, working
from tests.proxies import Proxy, proxied
from tests.verifying import assert_verified

SHORT = WorkerSettings(lease_seconds=2.0)
SIZE = 900

COPY = b'COPY "ledger"."spent"'
COPIED = b"PGCOPY\n\xff"
COMMIT = b"COMMIT\0"


@pytest.fixture
async def at(postgres_dsn: str, redis_url: str) -> AsyncIterator[Desk]:
    async with desk(postgres_dsn, redis_url) as made:
        yield made


async def alive(at: Desk, worker: uuid.UUID) -> bool:
    rows = await at.ledger.sql(
        "SELECT expires_at > clock_timestamp() AS alive FROM ledger.heartbeats WHERE worker = $1",
        worker,
    )
    return bool(rows[0]["alive"])


async def chain(at: Desk, worker: uuid.UUID) -> list[str]:
    """The kinds of rows in a worker's chain, in order."""
    rows = await at.ledger.sql(
        "SELECT kind FROM ledger.flushes WHERE worker = $1 ORDER BY sequence", worker
    )
    return [row["kind"] for row in rows]


async def taken_over(at: Desk, marker: bytes, passing: int, *, silent: bool = False) -> None:
    """Stop a worker where it sends `marker`, and see its shard go on without it."""
    async with proxied(at.ledger.dsn) as (proxy, through):
        stopped = WorkerProcess(at.ledger, [0], SHORT, through)
        async with working(stopped):
            await at.send(batch(SIZE))
            await at.answers(1)
            proxy.hold(marker, passing)
            await at.send(batch(SIZE))
            await asyncio.wait_for(proxy.held.wait(), CONDITION_SECONDS_MAX)
            if silent:
                proxy.silent = True
            else:
                stopped.freeze()
            taker = at.ledger.worker([0], SHORT)
            running = asyncio.create_task(taker.run())
            await until(ready_of(taker), "the shard to be taken over", UNAIDED_SECONDS_MAX)
            assert await at.answers(2) == [["created"] * SIZE] * 2
            before = await chain(at, stopped.worker)
            proxy.release()
            proxy.silent = False
            if not silent:
                stopped.thaw()

            async def is_back() -> bool:
                return await alive(at, stopped.worker)

            await until(is_back, "the one that was stopped to be back")
            await at.send(batch(1))
            assert (await at.answers(3))[2:] == [["created"]]
            assert await chain(at, stopped.worker) == before
            assert await at.count() == 2 * SIZE + 1
            taker.stop()
            await running
    await assert_verified(at.ledger)


def ready_of(worker: Worker) -> Callable[[], Awaitable[bool]]:
    async def ready() -> bool:
        return worker.ready.is_set()

    return ready


async def test_sigstop_mid_copy_is_taken_over(at: Desk) -> None:
    await taken_over(at, COPIED, 4000)


async def test_sigstop_between_fence_and_copy_is_taken_over(at: Desk) -> None:
    await taken_over(at, COPY, 0)


async def test_sigstop_before_commit_is_taken_over(at: Desk) -> None:
    await taken_over(at, COMMIT, 0)


async def test_partition_mid_copy_silent(at: Desk) -> None:
    """Nothing passes in either direction, and neither end is told."""
    await taken_over(at, COPIED, 4000, silent=True)


async def test_claimer_frozen_on_a_live_workers_row(at: Desk) -> None:
    """Somebody locked a worker's row to claim its shard, and froze: the worker goes on."""
    live = at.ledger.worker([0], WorkerSettings(lease_seconds=3.0))
    async with at.ledger.working(live), proxied(at.ledger.dsn) as (proxy, through):
        await at.send(batch(SIZE))
        await at.answers(1)
        claimer = WorkerProcess(at.ledger, [0], SHORT, through)
        proxy.hold(b"INSERT INTO ledger.flushes")
        try:
            await claimer.start()
            await until(lapsed(at, live.store.worker, proxy), "the claim to be under way")
            claimer.freeze()
            await at.send(batch(SIZE))
            assert await at.answers(2, UNAIDED_SECONDS_MAX) == [["created"] * SIZE] * 2
            proxy.release()
            claimer.thaw()
            await at.send(batch(1))
            await at.answers(3)
            assert "claim" not in (await chain(at, uuid.UUID(bytes=live.store.worker)))[1:]
        finally:
            await claimer.kill()
    await assert_verified(at.ledger)


def lapsed(at: Desk, worker: bytes, proxy: Proxy) -> Callable[[], Awaitable[bool]]:
    """Once a worker's lease has ended for a moment, which somebody used to claim."""

    async def claimed() -> bool:
        await at.ledger.sql(
            "UPDATE ledger.heartbeats SET expires_at = clock_timestamp() WHERE worker = $1",
            uuid.UUID(bytes=worker),
        )
        return proxy.held.is_set()

    return claimed


async def test_duplicate_behind_a_frozen_flush(postgres_dsn: str, redis_url: str) -> None:
    """An id waits in a flush that is frozen; the other shard, which has it too, goes on."""
    here, there = account(1, 1), account(1, 2)
    async with (
        desk(postgres_dsn, redis_url, here, there, shard_count=2) as at,
        proxied(at.ledger.dsn) as (proxy, through),
        at.ledger.working(at.ledger.worker([1])),
    ):
        frozen = WorkerProcess(at.ledger, [0], SHORT, through)
        async with working(frozen):
            spent = batch(SIZE)
            proxy.hold(COMMIT)
            await at.send(spent)
            await asyncio.wait_for(proxy.held.wait(), CONDITION_SECONDS_MAX)
            frozen.freeze()
            again = transfer(here, there, id=spent[0]["id"])
            await at.send([again], shard=1)
            assert await at.answers(1, UNAIDED_SECONDS_MAX) == [["created"]]
            proxy.release()
            frozen.thaw()
            expected = ["exists_with_different_debit_account_id"] + ["created"] * (SIZE - 1)
            assert (await at.answers(2))[1] == expected
    await assert_verified(at.ledger)
