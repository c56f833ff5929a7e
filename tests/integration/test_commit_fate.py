"""Commits of unknown fate: what was committed is answered `created`, once, and once only.

The worker talks to Postgres through a proxy that loses the COMMIT, its answer, or time.
Flushes of one transfer are one statement; those of 900 go by COPY.
"""

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
import pytest
from structlog.testing import capture_logs

from engine.settings import WorkerSettings
from engine.store.commit import ASK_SECONDS
from engine.store.worker_store import WorkerStore
from engine.streams.streams import Streams
from engine.worker.worker import Worker
from tests.bounds import CONDITION_SECONDS_MAX, UNAIDED_SECONDS_MAX
from tests.desks import Desk, batch, desk
from tests.ledgers import clock, ready, until
from tests.processes import WorkerProcess, working
from tests.proxies import Loss, proxied
from tests.verifying import assert_verified

BOTH_WAYS = pytest.mark.parametrize("size", [1, 900], ids=["one statement", "by COPY"])


def commit_of(transfers: list[dict[str, Any]]) -> bytes:
    """What stands in the message that commits a flush of these."""
    return uuid.UUID(transfers[0]["id"]).bytes if len(transfers) == 1 else b"COMMIT\0"


def worker_through(dsn: str, at: Desk, lease_seconds: float = 5.0) -> Worker:
    store = WorkerStore(dsn, uuid.uuid4().bytes)
    streams = Streams(at.ledger.redis_url, at.ledger.prefix)
    return Worker(store, streams, [0], clock, WorkerSettings(lease_seconds=lease_seconds))


async def goes_on(at: Desk, size: int, answered: int) -> None:
    """Another entry is answered, nothing was twice, and the books are right."""
    await at.send(batch(1))
    expected = [*[["created"] * size] * answered, ["created"]]
    assert await at.answers(answered + 1) == expected
    assert await at.count() == size * answered + 1


async def lose_a_commit(loss: Loss, size: int, dsn: str, redis_url: str) -> None:
    async with desk(dsn, redis_url) as at, proxied(at.ledger.engine_dsn) as (proxy, through):
        async with at.ledger.working(worker_through(through, at)):
            await at.send(batch(size))
            await at.answers(1)
            second = batch(size)
            proxy.lose(loss, commit_of(second))
            await at.send(second)
            await asyncio.wait_for(proxy.lost.wait(), CONDITION_SECONDS_MAX)
            await at.answers(2)
            await goes_on(at, size, 2)
        await assert_verified(at.ledger)


@BOTH_WAYS
async def test_commit_ack_lost_aborted(size: int, postgres_dsn: str, redis_url: str) -> None:
    """The COMMIT never reached the server: sent again."""
    await lose_a_commit("request", size, postgres_dsn, redis_url)


@BOTH_WAYS
async def test_commit_ack_lost_applied(size: int, postgres_dsn: str, redis_url: str) -> None:
    """The server committed, and its answer was lost: told from the ledger, once."""
    await lose_a_commit("answer", size, postgres_dsn, redis_url)


@BOTH_WAYS
async def test_commit_ack_lost_applied_after_a_read_back(
    size: int, postgres_dsn: str, redis_url: str
) -> None:
    """The COMMIT is on its way while the engine asks after its fate, and arrives afterwards.

    Absence is final only once the backend that was to commit is gone.
    """
    async with (
        desk(postgres_dsn, redis_url) as at,
        proxied(at.ledger.engine_dsn) as (proxy, through),
    ):
        async with at.ledger.working(worker_through(through, at)):
            await at.send(batch(size))
            await at.answers(1)
            late = batch(size)
            proxy.lose("late", commit_of(late))
            await at.send(late)
            await asyncio.wait_for(proxy.lost.wait(), CONDITION_SECONDS_MAX)
            # It read back where it stands, and sends what it decided anew.
            proxy.hold(commit_of(late) if size == 1 else b"BEGIN\0")
            await asyncio.wait_for(proxy.held.wait(), CONDITION_SECONDS_MAX)
            assert not await proxy.deliver()
            proxy.release()
            await at.answers(2)
            await goes_on(at, size, 2)
        await assert_verified(at.ledger)


@BOTH_WAYS
async def test_link_dead_behind_a_proxy_applied(
    size: int, postgres_dsn: str, redis_url: str
) -> None:
    """It is committed, and our end of the link stays open for ever: a new connection tells."""
    async with (
        desk(postgres_dsn, redis_url) as at,
        proxied(at.ledger.engine_dsn) as (proxy, through),
    ):
        async with at.ledger.working(worker_through(through, at)):
            await at.send(batch(size))
            await at.answers(1)
            second = batch(size)
            proxy.mute(commit_of(second))
            await at.send(second)
            assert await at.answers(2, UNAIDED_SECONDS_MAX) == [["created"] * size] * 2
            assert proxy.lost.is_set()
            await goes_on(at, size, 2)
        await assert_verified(at.ledger)


@BOTH_WAYS
async def test_link_dead_behind_a_proxy_aborted(
    size: int, postgres_dsn: str, redis_url: str
) -> None:
    """The COMMIT never arrives, and nobody is cut off: it is decided again."""
    async with (
        desk(postgres_dsn, redis_url) as at,
        proxied(at.ledger.engine_dsn) as (proxy, through),
    ):
        async with at.ledger.working(worker_through(through, at)):
            await at.send(batch(size))
            await at.answers(1)
            second = batch(size)
            proxy.hold(commit_of(second))
            await at.send(second)
            assert await at.answers(2, UNAIDED_SECONDS_MAX) == [["created"] * size] * 2
            assert proxy.held.is_set()
            await goes_on(at, size, 2)
        await assert_verified(at.ledger)


async def test_a_commit_that_is_at_work_is_waited_for_however_long(
    postgres_dsn: str, redis_url: str
) -> None:
    """It waits for a lock, as it might for a standby: asked after again and again, never cut."""
    async with desk(postgres_dsn, redis_url) as at:
        holder = await asyncpg.connect(at.ledger.dsn)
        worker = at.ledger.worker([0], WorkerSettings(lease_seconds=60.0))
        async with at.ledger.working(worker):
            await at.send(batch(1))
            await at.answers(1)
            await holder.execute("BEGIN")
            await holder.execute("LOCK TABLE ledger.resolutions IN ACCESS EXCLUSIVE MODE")
            with capture_logs() as logs:
                await at.send(batch(1))
                # Less than the time-out of a lock.
                await asyncio.sleep(2.5 * ASK_SECONDS)
                await holder.execute("ROLLBACK")
                assert await at.answers(2) == [["created"]] * 2
            assert not [entry for entry in logs if entry["event"] == "commit_unanswered"]
            assert worker.statistics.sessions == 1
        await holder.close()


@pytest.mark.parametrize("loss", ["request", "answer"], ids=["aborted", "applied"])
@BOTH_WAYS
async def test_commit_ack_lost_then_taken_over(
    loss: Loss, size: int, postgres_dsn: str, redis_url: str
) -> None:
    """Whoever was fenced meanwhile tells what it committed before, and nothing else."""
    async with (
        desk(postgres_dsn, redis_url) as at,
        proxied(at.ledger.engine_dsn) as (proxy, through),
    ):
        fenced = worker_through(through, at)
        async with at.ledger.working(fenced):
            await at.send(batch(size))
            await at.answers(1)
            second = batch(size)
            proxy.lose(loss, commit_of(second))
            await at.send(second)
            await asyncio.wait_for(proxy.lost.wait(), CONDITION_SECONDS_MAX)
            proxy.silent = True
            await expire(at, uuid.UUID(bytes=fenced.store.worker))
            async with at.ledger.working(at.ledger.worker([0])):
                await at.drained()
                # The other one decided it where it was not committed, and else said nothing.
                assert len(await at.answered()) == (2 if loss == "request" else 1)
                proxy.silent = False
                await at.answers(2)
                await goes_on(at, size, 2)

                async def sees_it() -> bool:
                    return not fenced.owned

                await until(sees_it, "the fenced worker to see that it was fenced")
        assert await at.answered() == [["created"] * size] * 2 + [["created"]]
        await assert_verified(at.ledger)


@BOTH_WAYS
async def test_restart_same_host_old_commit_lands_late(
    size: int, postgres_dsn: str, redis_url: str
) -> None:
    """A worker died, and its COMMIT is still on its way while its successor claims."""
    async with (
        desk(postgres_dsn, redis_url) as at,
        proxied(at.ledger.engine_dsn) as (proxy, through),
    ):
        died = WorkerProcess(at.ledger, dsn=through)
        async with working(died):
            await at.send(batch(size))
            await at.answers(1)
            late = batch(size)
            proxy.lose("late", commit_of(late))
            await at.send(late)
            await asyncio.wait_for(proxy.lost.wait(), CONDITION_SECONDS_MAX)
        await expire(at, died.worker)
        successor = at.ledger.worker([0])
        claiming = asyncio.create_task(successor.run())
        if size > 1:  # The old transaction is open, and has its lock.
            await until(waits_for_a_lock(at), "the claim to wait")
            assert await proxy.deliver()
            await ready(successor, claiming)
            await at.drained()
            assert len(await at.answered()) == 1
            await at.send(late)
            assert (await at.answers(2))[1] == ["exists"] * size
        else:  # The old statement is yet to begin, and finds its number taken.
            await ready(successor, claiming)
            assert not await proxy.deliver()
            assert await at.answers(2) == [["created"]] * 2
        assert await at.count() == 2 * size
        successor.stop()
        await claiming
        await assert_verified(at.ledger)


async def expire(at: Desk, worker: uuid.UUID) -> None:
    """End its lease, as if its heartbeats had stayed away for so long."""
    await at.ledger.sql(
        "UPDATE ledger.heartbeats SET expires_at = clock_timestamp() WHERE worker = $1",
        worker,
    )


def waits_for_a_lock(at: Desk) -> Callable[[], Awaitable[bool]]:
    async def waits() -> bool:
        found = await at.ledger.sql(
            "SELECT FROM pg_stat_activity WHERE datname = current_database()"
            " AND application_name LIKE 'engine %' AND wait_event_type = 'Lock'"
        )
        return bool(found)

    return waits
