"""Flushes that fail, each in its way: decided again, and never told of as an outcome."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Self

import asyncpg
import pytest
from structlog.testing import capture_logs

from engine.errors import TryAgainError
from engine.store import driver
from engine.store.worker_store import WorkerStore
from tests.bounds import CONDITION_SECONDS_MAX
from tests.desks import A, B, Desk, batch, desk
from tests.integration.test_commit_fate import BOTH_WAYS, commit_of, worker_through
from tests.ledgers import until
from tests.proxies import proxied
from tests.verifying import assert_verified

WRITERS = (
    "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
    " AND application_name LIKE 'engine ________-____-____-____-____________'"
)
SPEND = (
    "INSERT INTO ledger.spent (id, number, debit_account, credit_account, amount, code, flags,"
    " shard, outcome) SELECT $1, -1, d.number, c.number, 1, 1, 0, 0, 0"
    f" FROM ledger.accounts d, ledger.accounts c WHERE d.id = '{A}' AND c.id = '{B}'"
)
STAGES = {
    "before the fence": (b"BEGIN\0", 0),
    "after the fence": (b'COPY "ledger"."spent"', 0),
    "mid COPY": (b"PGCOPY\n\xff", 4000),
    "before COMMIT": (b"COMMIT\0", 0),
}


@pytest.fixture
async def at(postgres_dsn: str, redis_url: str) -> AsyncIterator[Desk]:
    async with desk(postgres_dsn, redis_url) as made:
        yield made


def waits_for_a_lock(at: Desk) -> Callable[[], Awaitable[bool]]:
    async def waits() -> bool:
        return bool(await at.ledger.sql(f"{WRITERS} AND wait_event_type = 'Lock'"))

    return waits


@pytest.mark.parametrize("stage", STAGES)
async def test_a_backend_is_terminated(stage: str, at: Desk) -> None:
    async with proxied(at.ledger.dsn) as (proxy, through):
        async with at.ledger.working(worker_through(through, at)):
            await at.send(batch(900))
            await at.answers(1)
            proxy.hold(*STAGES[stage])
            await at.send(batch(900))
            await asyncio.wait_for(proxy.held.wait(), CONDITION_SECONDS_MAX)
            await at.ledger.sql(WRITERS.replace("SELECT pid", "SELECT pg_terminate_backend(pid)"))
            proxy.release()
            assert await at.answers(2) == [["created"] * 900] * 2
        assert await at.count() == 2 * 900
        await assert_verified(at.ledger)


async def test_the_backend_of_a_small_flush_is_terminated(at: Desk) -> None:
    async with proxied(at.ledger.dsn) as (proxy, through):
        async with at.ledger.working(worker_through(through, at)):
            await at.send(batch(1))
            await at.answers(1)
            second = batch(1)
            proxy.hold(commit_of(second))
            await at.send(second)
            await asyncio.wait_for(proxy.held.wait(), CONDITION_SECONDS_MAX)
            await at.ledger.sql(WRITERS.replace("SELECT pid", "SELECT pg_terminate_backend(pid)"))
            proxy.release()
            assert await at.answers(2) == [["created"]] * 2
        assert await at.count() == 2
        await assert_verified(at.ledger)


async def test_a_connection_lost_before_a_flush_is_sent_ends_no_worker(at: Desk) -> None:
    """Nothing was sent: nothing is looked for, and the next session decides it."""
    worker = at.ledger.worker([0])
    async with at.ledger.working(worker):
        with capture_logs() as logs:
            for sent in range(1, 4):
                worker.store._connections.writer.terminate()
                await at.send(batch(1))
                assert await at.answers(sent) == [["created"]] * sent

                async def reads_on() -> bool:
                    return worker.ready.is_set()

                await until(reads_on, "the worker to be ready")
    assert not [entry for entry in logs if entry["event"] == "commit_of_unknown_fate"]
    await assert_verified(at.ledger)


class Spender:
    """A stranger's transaction that has spent an id and may yet give it back."""

    def __init__(self, at: Desk) -> None:
        self._at = at

    async def __aenter__(self) -> Self:
        self.connection = await asyncpg.connect(self._at.ledger.dsn)
        await self.connection.execute("BEGIN")
        return self

    async def spend(self, transfer: dict[str, Any]) -> None:
        await self.connection.execute(SPEND, uuid.UUID(transfer["id"]))

    async def __aexit__(self, *_: object) -> None:
        self.connection.terminate()


@BOTH_WAYS
async def test_a_lock_time_out_means_redo(
    size: int, at: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An id is in the hands of a transaction that takes its time: whatever comes of it decides."""
    monkeypatch.setitem(driver._SETTINGS, "lock_timeout", "100ms")
    worker = at.ledger.worker([0])
    async with at.ledger.working(worker), Spender(at) as spender:
        held = batch(size)
        await spender.spend(held[-1])
        await at.send(held)

        async def redone() -> bool:
            return worker.statistics.conflicts >= 3

        await until(redone, "the flush to be decided again and again")
        assert await at.answered() == []
        await spender.connection.execute("ROLLBACK")
        assert await at.answers(1) == [["created"] * size]
    await assert_verified(at.ledger)


@BOTH_WAYS
async def test_a_deadlock_means_redo(size: int, at: Desk) -> None:
    worker = at.ledger.worker([0])
    async with at.ledger.working(worker), Spender(at) as spender:
        # Whoever waits first finds the deadlock: not the stranger.
        await spender.connection.execute("SET LOCAL deadlock_timeout = '1h'")
        held = batch(size)
        await spender.spend(held[-1])
        await at.send(held)
        await until(waits_for_a_lock(at), "the flush to wait for the id")
        await spender.connection.execute(
            "SELECT FROM ledger.workers WHERE worker = $1 FOR UPDATE",
            uuid.UUID(bytes=worker.store.worker),
        )
        assert worker.statistics.conflicts <= 1
        await spender.connection.execute("ROLLBACK")
        assert await at.answers(1) == [["created"] * size]
        assert worker.statistics.conflicts == 1
    await assert_verified(at.ledger)


@BOTH_WAYS
async def test_a_cancelled_statement_means_redo(size: int, at: Desk) -> None:
    """As by a statement_timeout, or by somebody who takes pity on a waiting query."""
    async with at.ledger.working(), Spender(at) as spender:
        held = batch(size)
        await spender.spend(held[-1])
        await at.send(held)
        await until(waits_for_a_lock(at), "the flush to wait for the id")
        await at.ledger.sql(WRITERS.replace("SELECT pid", "SELECT pg_cancel_backend(pid)"))
        await spender.connection.execute("ROLLBACK")
        assert await at.answers(1) == [["created"] * size]
    await assert_verified(at.ledger)


@BOTH_WAYS
async def test_an_id_that_another_spent_first_is_looked_up(size: int, at: Desk) -> None:
    async with at.ledger.working(), Spender(at) as spender:
        held = batch(size)
        await spender.spend(held[-1])
        await at.send(held)
        await until(waits_for_a_lock(at), "the flush to wait for the id")
        await spender.connection.execute("COMMIT")
        assert await at.answers(1) == [["created"] * (size - 1) + ["exists"]]


@BOTH_WAYS
async def test_a_stale_version_means_redo(size: int, at: Desk) -> None:
    """Somebody else wrote the next version of a stripe: what was built on the old one is not."""
    worker = at.ledger.worker([0])
    async with at.ledger.working(worker):
        await at.send(batch(3))
        await at.answers(1)
        await at.ledger.sql(
            "WITH flush AS ("
            "   INSERT INTO ledger.flushes (worker, sequence, kind, digest, time, postings)"
            "   SELECT '00000000-0000-0000-0000-000000000000', 1 + max(sequence), 'flush', '',"
            "          clock_timestamp(), 2 FROM ledger.flushes RETURNING number)"
            " INSERT INTO ledger.posted"
            " SELECT stripe, version + 1, 1, flush.number * 1048576 + row_number() OVER (),"
            "        gen_random_uuid(), 0, 0,"
            "        debits_pending, debits_posted, credits_pending, credits_posted"
            " FROM ledger.posted, flush WHERE version = 3"
        )
        await at.send(batch(size))
        assert await at.answers(2) == [["created"] * 3, ["created"] * size]
        assert worker.statistics.conflicts == 1
    rows = await at.ledger.sql(
        "SELECT max(version) AS version, count(*) AS postings, max(credits_posted) AS credits"
        " FROM ledger.postings GROUP BY account_id"
    )
    found = sorted(tuple(row) for row in rows)
    assert found == [(size + 4, size + 4, 0), (size + 4, size + 4, size + 3)]


async def test_settings_of_the_role_do_not_reach_a_session(at: Desk) -> None:
    """A time limit would end a COMMIT; another isolation would read what was before a lock."""
    name = at.ledger.dsn.rsplit("/", 1)[1]
    others = {
        "statement_timeout": "1ms",
        "idle_in_transaction_session_timeout": "1ms",
        "default_transaction_isolation": "serializable",
        "client_min_messages": "error",
    }
    connection = await asyncpg.connect(at.ledger.dsn)
    for setting, value in others.items():
        await connection.execute(f"ALTER DATABASE {name} SET {setting} = '{value}'")
    await connection.close()
    store = WorkerStore(at.ledger.engine_dsn, uuid.uuid4().bytes)
    await store.open()
    for setting, value in others.items():
        found = await store._connections.writer.fetchval("SELECT current_setting($1)", setting)
        assert found != value, setting
    store.drop()


async def test_a_database_without_writes_is_waited_for(at: Desk) -> None:
    """As after a failover, until the address leads to the primary again."""
    name = at.ledger.dsn.rsplit("/", 1)[1]
    await at.ledger.sql(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    worker = at.ledger.worker([0])
    store = WorkerStore(at.ledger.engine_dsn, uuid.uuid4().bytes)
    await store.open()
    with pytest.raises(TryAgainError, match="takes no writes"):
        await store.ownership.register(1.0)
    store.drop()
    running = asyncio.create_task(worker.run())
    connection = await asyncpg.connect(at.ledger.dsn)
    await connection.execute("SET default_transaction_read_only = off")
    await connection.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")
    await connection.close()
    await at.send(batch(1))
    assert await at.answers(1) == [["created"]]
    worker.stop()
    await running


async def test_too_many_connections_are_waited_for(at: Desk) -> None:
    await at.ledger.sql("DROP ROLE IF EXISTS poor")
    await at.ledger.sql("CREATE ROLE poor LOGIN PASSWORD 'poor' CONNECTION LIMIT 1 IN ROLE engine")
    there = at.ledger.dsn.partition("@")[2]
    store = WorkerStore(f"postgresql://poor:poor@{there}", uuid.uuid4().bytes)
    with pytest.raises(TryAgainError, match="too many connections"):
        await store.open()
    store.drop()
