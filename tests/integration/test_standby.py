"""A COMMIT that waits for a synchronous standby: nothing ends the wait, and nothing is told before.

Whoever cancels such a COMMIT, or ends its backend, makes it visible and not durable: Postgres
reports success, or closes the connection. The engine answers neither.
"""

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator

import asyncpg
import pytest

from engine.book.columns import NO_POSTINGS
from engine.ledger.nouns import Position
from engine.servers import PostgresServer
from engine.store.ownership import NOBODY
from engine.store.rows import DeadLetter, Flush
from engine.store.worker_store import WorkerStore
from tests.bounds import CONDITION_SECONDS_MAX
from tests.desks import Desk, batch, desk
from tests.ledgers import clock, until
from tests.standbys import Pair, paired
from tests.verifying import assert_verified

BOTH_WAYS = pytest.mark.parametrize("size", [1, 900], ids=["one statement", "by COPY"])

WAITING = (
    "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'SyncRep'"
    " AND application_name LIKE 'engine %' AND application_name NOT LIKE '% reading'"
)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    with paired(tmp_path_factory.mktemp("pair")) as made:
        yield made


@pytest.fixture
async def at(pair: Pair) -> AsyncIterator[Desk]:
    await pair.together()
    async with desk(pair.servers.postgres.dsn, pair.servers.valkey.url) as made:
        yield made


async def waits(at: Desk, but_not: int = 0) -> int:
    """Wait until the worker waits for the standby in another backend than `but_not`; its pid."""

    async def waiting() -> int:
        found = [row["pid"] for row in await at.ledger.sql(WAITING)]
        return next((pid for pid in found if pid != but_not), 0)

    pid: int = await until(waiting, "a COMMIT to wait for the standby")
    return pid


async def commit_again(at: Desk) -> int:
    """Wait until what was cut short is committed over again, and waits again; by which backend."""
    pid = await waits(at)

    async def asks() -> bool:
        found = await at.ledger.sql(
            "SELECT FROM pg_stat_activity WHERE pid = $1 AND query LIKE '%pg_logical_emit_message%'"
            " AND wait_event = 'SyncRep'",
            pid,
        )
        return bool(found)

    await until(asks, "a commit of the worker's own to wait")
    return pid


async def kept_by(standby: PostgresServer, at: Desk) -> int:
    """How many transfers a failover to the standby would keep."""
    name = at.ledger.dsn.rsplit("/", 1)[1]
    connection = await asyncpg.connect(f"{standby.dsn.rsplit('/', 1)[0]}/{name}")
    try:
        count: int = await connection.fetchval("SELECT count(*) FROM ledger.transfers")
    finally:
        await connection.close()
    return count


@pytest.mark.parametrize("way", ["cancel", "terminate"])
@BOTH_WAYS
async def test_commit_cancelled_with_synchronous_standby(
    way: str, size: int, pair: Pair, at: Desk
) -> None:
    """Cut short again and again, it is answered once the standby has it, and not before."""
    async with at.ledger.working():
        await at.send(batch(size))
        await at.answers(1)
        pair.standby.kill()
        await at.send(batch(size))
        pid = await waits(at)
        for _ in range(3):
            await at.ledger.sql(f"SELECT pg_{way}_backend({pid})")
            pid = await commit_again(at) if way == "cancel" else await waits(at, pid)
            assert await at.count() == 2 * size  # visible, and not durable
            assert len(await at.answered()) == 1
        await asyncio.to_thread(pair.standby.start)
        assert await at.answers(2) == [["created"] * size] * 2
        assert await kept_by(pair.standby, at) == 2 * size
    await assert_verified(at.ledger)


@BOTH_WAYS
async def test_a_cancelled_task_lets_its_commit_wait(size: int, pair: Pair, at: Desk) -> None:
    """Whoever cancels the task that flushes cancels no COMMIT: the task ends after it."""
    store = WorkerStore(at.ledger.engine_dsn, uuid.uuid4().bytes)
    await store.open()
    await store.ownership.register(60)
    await store.ownership.claim(NOBODY, [0], owned={}, time=clock())
    before = await store.load_ownership()
    pair.standby.kill()
    position = Position(0, 1000, 0)
    letters = [DeadLetter(0, position, "for the test", [b"a", b"b"])] if size > 1 else []
    time = clock()
    places, resolved = {0: position}, {0: time}
    number = before.number
    flush = Flush(before.sequence + 1, number, time, [], NO_POSTINGS, places, resolved, letters)
    flushing = asyncio.create_task(store.flush(flush))
    try:
        pid = await waits(at)
        flushing.cancel()
        for _ in range(20):  # A cancel that had been sent would have come before these.
            assert await waits(at) == pid
        assert not flushing.done()
        await asyncio.to_thread(pair.standby.start)
        await asyncio.wait([flushing], timeout=CONDITION_SECONDS_MAX)
        assert flushing.cancelled()
        assert (await store.load_ownership()).shards[0].position == position
    finally:
        store.drop()


async def test_a_standby_that_is_away_ends_no_lease(pair: Pair, at: Desk) -> None:
    """Nothing is answered without it, and nobody takes the shards of who waits for it."""
    async with at.ledger.working():
        pair.standby.kill()
        await at.send(batch(1))
        await waits(at)
        expires = "SELECT max(expires_at) AS expires_at FROM ledger.heartbeats"
        [before] = await at.ledger.sql(expires)

        async def beats() -> bool:
            [row] = await at.ledger.sql(expires)
            return bool(row["expires_at"] > before["expires_at"])

        await until(beats, "a heartbeat")
        assert await at.answered() == []
        await asyncio.to_thread(pair.standby.start)
        assert await at.answers(1) == [["created"]]
