"""A trouble that comes and goes, or is over, is told as what it is."""

import asyncio
import uuid

import asyncpg
import pytest
from structlog.testing import capture_logs

from engine.operating.health import Status, gather_status
from engine.operating.outages import OutageRecorder
from engine.operating.server_problems import LETTERS_MAX
from engine.servers import Addresses
from engine.settings import PREFIX_VARIABLE, WorkerSettings
from engine.store.worker_store import WorkerStore
from engine.streams.streams import Streams
from engine.worker.worker import Worker
from tests.desks import desk_over, transfer
from tests.ledgers import Ledger, clock, ready, until
from tests.proxies import proxied
from tests.told import problems, run


@pytest.fixture
def look(monkeypatch: pytest.MonkeyPatch):
    async def look_at(ledger: Ledger, redis_url: str | None = None) -> Status:
        monkeypatch.setenv(PREFIX_VARIABLE, ledger.prefix)
        return await gather_status(Addresses(ledger.app_dsn, redis_url or ledger.redis_url), 30.0)

    return look_at


ALTER = "ALTER TABLE ledger.posted RENAME COLUMN debits_pending TO another"
UNDO = "ALTER TABLE ledger.posted RENAME COLUMN another TO debits_pending"
SESSIONS = 8


async def test_sessions_that_end_again_and_again_are_told_with_the_last_reason(
    ledger: Ledger, look
) -> None:
    """And the log, and what is kept of outages, get fewer lines than there are sessions."""
    settings = WorkerSettings(backoff_seconds_max=0.05)
    worker = ledger.worker(settings=settings)
    recording = asyncio.create_task(OutageRecorder(worker, ledger.engine_dsn).run())
    with capture_logs() as logs:
        async with desk_over(ledger) as at, ledger.working(worker):
            connection = await asyncpg.connect(ledger.dsn)
            await connection.execute(ALTER)
            await at.send([transfer()])
            await until(lambda: worker.statistics.sessions > SESSIONS, "many sessions")

            async def is_told() -> bool:
                said = problems(await look(ledger))
                return "its sessions end again and again" in said and "debits_pending" in said

            await until(is_told, "status to say so")
            shown = await run(ledger, "status")
            assert "All is well" not in shown.out
            await connection.execute(UNDO)
            await connection.close()
            await at.answers(1)
    recording.cancel()
    await asyncio.gather(recording, return_exceptions=True)
    lines = [entry["event"] for entry in logs]
    assert lines.count("session_ended") < SESSIONS
    assert lines.count("working_again") < SESSIONS
    kept = await ledger.sql("SELECT FROM ledger.events WHERE event IN ('outage', 'session_ended')")
    assert len(kept) < SESSIONS


async def test_a_wait_that_is_over_is_told_no_more(
    ledger: Ledger, look, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once, and not only once what was said has grown old."""
    monkeypatch.setattr("engine.worker.worker.WAITS_SECONDS", 3600.0)
    async with proxied(ledger.redis_url) as (between, through):
        worker = Worker(
            WorkerStore(ledger.engine_dsn, uuid.uuid4().bytes),
            Streams(through, ledger.prefix),
            None,
            clock,
            WorkerSettings(backoff_seconds_max=0.05),
        )
        async with ledger.working(worker):
            between.refusal = "LOADING it reads its file"
            await between.end()

            async def waits() -> bool:
                return any(w.waits_for for w in (await look(ledger)).workers)

            await until(waits, "the worker to say that it waits")
            between.refusal = None
            await ready(worker, asyncio.create_task(asyncio.sleep(3600)))

            async def goes_on() -> bool:
                return not await waits()

            await until(goes_on, "status to say that it does not wait")


async def test_many_dead_letters_that_nobody_dealt_with_are_wrong(ledger: Ledger, look) -> None:
    async with desk_over(ledger) as at, ledger.working():
        for _ in range(LETTERS_MAX):
            await at.redis.xadd(at.stream(), {"json": "nonsense"})
        await at.drained()
        status = await look(ledger)
        assert f"{LETTERS_MAX} entries are dead letters" in problems(status)
        shown = await run(ledger, "status")
        assert "engine letters list --state open" in shown.out
        assert "All is well" not in shown.out
