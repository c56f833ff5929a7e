"""What somebody changes while a worker works is waited for: it was as it must be, and will be."""

import asyncio
import uuid
from collections.abc import AsyncIterator

import asyncpg
import pytest
from structlog.testing import capture_logs

from tests.desks import Desk, batch, desk
from tests.ledgers import until
from tests.verifying import assert_verified


@pytest.fixture
async def at(postgres_dsn: str, redis_url: str) -> AsyncIterator[Desk]:
    async with desk(postgres_dsn, redis_url) as made:
        yield made


CHANGES = [
    (
        "ALTER TABLE ledger.posted RENAME COLUMN debits_pending TO other",
        "ALTER TABLE ledger.posted RENAME COLUMN other TO debits_pending",
        "does not exist",
    ),
    (
        "CREATE RULE strange AS ON INSERT TO ledger.flushes DO INSTEAD NOTHING",
        "DROP RULE strange ON ledger.flushes",
        "not as this program knows it",
    ),
    (
        "ALTER TABLE ledger.posted ENABLE ROW LEVEL SECURITY",
        "ALTER TABLE ledger.posted DISABLE ROW LEVEL SECURITY",
        "row-level security",
    ),
    (
        "ALTER SEQUENCE ledger.flush_numbers RESTART",
        "SELECT setval('ledger.flush_numbers', (SELECT max(number) FROM ledger.flushes))",
        "ledger.flush_numbers",
    ),
]


@pytest.mark.parametrize(("begin", "end", "says"), CHANGES, ids=lambda text: text[:40])
async def test_what_is_changed_in_the_schema_ends_no_worker(
    at: Desk, begin: str, end: str, says: str
) -> None:
    """Flushes by one statement and by COPY; nothing is written out of its order meanwhile."""
    worker = at.ledger.worker([0])
    with capture_logs() as logs:
        async with at.ledger.working(worker):
            await at.send(batch(3))
            await at.answers(1)
            await at.ledger.sql(begin)
            sent = 3

            async def told() -> bool:
                nonlocal sent
                size = 900 if worker.statistics.flushes % 2 else 1  # by COPY, or by one statement
                await at.send(batch(size))
                sent += size
                await asyncio.sleep(0.05)
                return says in str(logs)

            await until(told, "the worker to say what is wrong")
            await asyncio.sleep(1)
            await at.ledger.sql(end)
            await at.drained()
    assert await at.count() == sent
    await assert_verified(at.ledger)


async def test_a_database_that_is_renamed_for_a_while_ends_no_worker(at: Desk) -> None:
    """As where a copy takes its place; and one that this role may not connect to."""
    name = at.ledger.dsn.rpartition("/")[2]
    admin = await asyncpg.connect(at.ledger.dsn.rpartition("/")[0] + "/postgres")
    end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1"
    aside = f"aside_{uuid.uuid4().hex[:12]}"

    async def renamed() -> bool:
        await admin.fetch(end, name)
        try:
            await admin.execute(f"ALTER DATABASE {name} RENAME TO {aside}")
        except asyncpg.ObjectInUseError:
            return False
        return True

    try:
        with capture_logs() as logs:
            async with at.ledger.working(at.ledger.worker([0])):
                await until(renamed, "the database to be renamed")
                await at.send(batch(1))
                await until(lambda: "does not exist" in str(logs), "the worker to say so")
                await admin.execute(f"ALTER DATABASE {aside} RENAME TO {name}")
                await at.drained()
                await admin.execute(f"REVOKE CONNECT ON DATABASE {name} FROM PUBLIC")
                await admin.fetch(end, name)
                await at.send(batch(1))
                await until(lambda: "permission denied" in str(logs), "the worker to say so")
                await admin.execute(f"GRANT CONNECT ON DATABASE {name} TO PUBLIC")
                await at.drained()
    finally:
        await admin.close()
    assert await at.count() == 2
    await assert_verified(at.ledger)


ALTERING = [
    "ALTER TABLE ledger.spent ADD COLUMN strange bigint DEFAULT 7",
    "ALTER TABLE ledger.posted ADD COLUMN strange text",
    "CREATE INDEX strange ON ledger.posted (amount)",
    "REINDEX TABLE ledger.spent",
    "VACUUM FULL ledger.positions",
    "VACUUM FULL ledger.accounts",
    "VACUUM FULL ledger.posted",
    "ANALYZE",
    "DROP INDEX ledger.strange",
    "ALTER TABLE ledger.posted DROP COLUMN strange",
    "ALTER TABLE ledger.spent DROP COLUMN strange",
]
ALTERED_TIMES = 5


async def test_tables_that_are_altered_all_the_time_stop_nobody(at: Desk) -> None:
    """Locks come and go, plans are made anew: no session ends, and all is decided."""
    worker = at.ledger.worker([0])
    sent = 0
    async with at.ledger.working(worker):

        async def alter() -> None:
            connection = await asyncpg.connect(at.ledger.dsn)
            for _ in range(ALTERED_TIMES):
                for statement in ALTERING:
                    await connection.execute(statement)
            await connection.close()

        altering = asyncio.create_task(alter())
        while not altering.done():
            size = 900 if sent % 2 else 1
            await at.send(batch(size))
            sent += size
            await asyncio.sleep(0.02)
        await altering
        await at.drained()
    assert worker.statistics.sessions == 1
    assert await at.count() == sent
    await assert_verified(at.ledger)
