"""What one entry makes the database refuse is set aside; what somebody locks is waited for."""

import asyncio
import json
import os
import signal
import uuid

import asyncpg
import pytest
from structlog.testing import capture_logs

from engine.commands.crew import run_until_signal
from engine.errors import ConfigurationError
from engine.store import driver
from engine.store.migrate import migrate
from engine.store.worker_store import WorkerStore
from tests.bounds import CONDITION_SECONDS_MAX, PROCESS_SECONDS_MAX
from tests.desks import batch, desk
from tests.integration.test_commit_fate import commit_of, worker_through
from tests.ledgers import until
from tests.proxies import proxied
from tests.verifying import assert_verified

REFUSE = """
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.id = '{}' THEN RAISE EXCEPTION 'not this one'; END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER refuse BEFORE INSERT ON ledger.spent FOR EACH ROW EXECUTE FUNCTION refuse();
"""

MOMENT_SECONDS = 1.0
"""In which what must not end does not."""


async def execute(dsn: str, *statements: str) -> None:
    connection = await asyncpg.connect(dsn)
    for text in statements:
        await connection.execute(text)
    await connection.close()


async def test_a_transfer_that_a_trigger_refuses_is_found_among_thousands(
    postgres_dsn: str, redis_url: str
) -> None:
    async with desk(postgres_dsn, redis_url) as at:
        entries = [batch(40) for _ in range(60)]
        worker = at.ledger.worker()
        async with at.ledger.working(worker):
            await execute(at.ledger.dsn, REFUSE.format(entries[37][11]["id"]))
            for entry in entries:
                await at.send(entry)
            await at.drained()
        assert worker.statistics.sessions == 1
        assert await at.count() == 59 * 40
        (letter,) = await at.ledger.sql("SELECT reason, fields FROM ledger.dead_letters")
        assert "not this one" in letter["reason"]
        assert json.loads(letter["fields"][1]) == entries[37]
        assert await at.redis.xlen(at.reply) == 60
        await assert_verified(at.ledger, but="definitions")


async def test_entry_that_the_encoding_has_not(postgres_dsn: str) -> None:
    """No ledger is made in a database that cannot hold every name; no worker opens one."""
    name = f"ledger_{uuid.uuid4().hex[:12]}"
    await execute(
        postgres_dsn,
        f"CREATE DATABASE {name} ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0",
    )
    own = postgres_dsn.rsplit("/", 1)[0] + "/" + name
    with pytest.raises(ConfigurationError, match="ENCODING 'UTF8'"):
        await migrate(own, 1)
    store = WorkerStore(own, uuid.uuid4().bytes)
    with pytest.raises(ConfigurationError, match="the encoding LATIN1"):
        await store.open()
    store.drop()


async def test_table_lock_for_minutes(
    postgres_dsn: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As CREATE INDEX takes it: waited for, however often the time for a lock has passed."""
    monkeypatch.setitem(driver._SETTINGS, "lock_timeout", "20ms")
    async with desk(postgres_dsn, redis_url) as at:
        worker = at.ledger.worker()
        with capture_logs() as logs:
            async with at.ledger.working(worker):
                connection = await asyncpg.connect(at.ledger.dsn)
                await connection.execute("BEGIN; LOCK TABLE ledger.spent IN SHARE MODE")
                await at.send(batch(2))
                wait_times = worker.settings.conflicts_max + 5
                worker._session._pipeline._attempts._wait_seconds_max = 0.05
                await until(
                    lambda: worker.statistics.conflicts > wait_times,
                    "many attempts",
                    PROCESS_SECONDS_MAX,
                )
                assert worker.statistics.sessions == 1
                await connection.execute("COMMIT")
                await connection.close()
                assert await at.answers(1) == [["created"] * 2]
        events = [entry["event"] for entry in logs]
        assert events.count("waiting_for_a_lock") == events.count("lock_is_free") == 1
        assert not [entry for entry in logs if entry["event"].endswith("set_aside")]
        await assert_verified(at.ledger)


async def test_a_server_that_is_away_is_said_once_and_that_it_is_back(
    postgres_dsn: str, redis_url: str
) -> None:
    async with desk(postgres_dsn, redis_url) as at:
        worker = at.ledger.worker()
        with capture_logs() as logs:
            async with at.ledger.working(worker):
                name = at.ledger.dsn.rsplit("/", 1)[1]
                await execute(
                    postgres_dsn,
                    f"ALTER DATABASE {name} ALLOW_CONNECTIONS false",
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    f" WHERE datname = '{name}'",
                )
                await until(lambda: not worker.ready.is_set(), "the session to end")
                await asyncio.sleep(1)
                await execute(postgres_dsn, f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
                await at.send(batch(1))
                assert await at.answers(1) == [["created"]]
        events = [entry["event"] for entry in logs]
        assert events.count("session_ended") == events.count("working_again") == 1


async def test_a_second_term_ends_a_worker_that_waits_for_a_commit(
    postgres_dsn: str, redis_url: str
) -> None:
    async with desk(postgres_dsn, redis_url) as at, proxied(at.ledger.dsn) as (proxy, through):
        worker = worker_through(through, at)
        running = asyncio.create_task(run_until_signal(worker.run, worker.stop, worker.abandon))
        await asyncio.wait_for(worker.ready.wait(), CONDITION_SECONDS_MAX)
        held = batch(900)
        proxy.hold(commit_of(held))
        await at.send(held)
        await asyncio.wait_for(proxy.held.wait(), CONDITION_SECONDS_MAX)
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait([running], timeout=MOMENT_SECONDS)
        assert not running.done(), "a first one waits for the commit"
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(running, CONDITION_SECONDS_MAX)
        await worker.streams.close()  # as the end of the process would
        proxy.release()
        # Another goes on, and finds it committed or not.
        async with at.ledger.working(at.ledger.worker([0])):
            await at.drained()
        assert await at.count() == 900
        await assert_verified(at.ledger)
