"""What happened is told from rows: who died, who took over, how long a server was away."""

import asyncio
import uuid

import pytest

from engine.errors import InputError
from engine.operating.durations import parse_seconds
from engine.operating.outages import OutageRecorder
from engine.settings import WorkerSettings
from engine.store.inspection import Event, open_inspection
from engine.store.operations import open_operations
from engine.store.worker_store import WorkerStore
from engine.streams.streams import Streams
from engine.worker.worker import Worker
from tests.desks import desk_over, transfer
from tests.ledgers import Ledger, clock, until
from tests.moving import id_of, move
from tests.processes import WorkerProcess, working
from tests.proxies import proxied

SHORT = WorkerSettings(lease_seconds=1.0)


async def events_of(ledger: Ledger, seconds: float = 600, limit: int = 1000) -> list[Event]:
    async with open_inspection(ledger.app_dsn) as inspection:
        return await inspection.events(seconds, limit)


async def happened(ledger: Ledger, event: str) -> list[Event]:
    return [found for found in await events_of(ledger) if found.event == event]


async def test_a_start_a_claim_and_a_clean_stop_are_told_and_no_death(ledger: Ledger) -> None:
    async with ledger.working() as [worker]:
        pass
    [started] = await happened(ledger, "worker_started")
    [claimed] = await happened(ledger, "shards_claimed")
    [released] = await happened(ledger, "shards_released")
    [stopped] = await happened(ledger, "worker_stopped")
    assert {e.who for e in (started, claimed, released, stopped)} == {id_of(worker)}
    assert claimed.shards == released.shards == list(range(16))
    assert await happened(ledger, "worker_died") == []


async def test_a_death_and_who_took_over_are_told(ledger: Ledger) -> None:
    dead = WorkerProcess(ledger, settings=SHORT)
    async with working(dead):
        await dead.kill()
        async with ledger.working(ledger.worker(settings=SHORT)) as [heir]:
            [died] = await happened(ledger, "worker_died")
            [taken] = await happened(ledger, "shards_taken_over")
    assert died.who == str(dead.worker)
    assert died.shards == list(range(16))
    assert (taken.who, taken.shards) == (id_of(heir), list(range(16)))


async def test_moves_and_drains_are_told_with_who_asked(ledger: Ledger) -> None:
    one, other = ledger.worker(), ledger.worker()
    async with ledger.working(one, other):
        shard = min(one.owned)
        await move(ledger, {shard: other})
        async with open_operations(ledger.app_dsn) as operations:
            await operations.drain([id_of(one)])
            await operations.drain([id_of(one)])
        [moved] = [e for e in await happened(ledger, "shard_move_done") if e.who == "a test"]
        [drained] = await happened(ledger, "worker_drained")
        [_] = await happened(ledger, "plan_began")
    assert moved.shards == [shard]
    assert moved.seconds is not None
    assert drained.who == id_of(one)


async def test_a_dead_letter_and_locked_flushes_are_told(ledger: Ledger) -> None:
    low, high = ledger.worker(shards=range(8)), ledger.worker(shards=range(8, 16))
    async with desk_over(ledger) as desk, ledger.working(low, high):
        await desk.redis.xadd(desk.stream(), {"json": "{"})
        await desk.send([transfer()], shard=9)  # the wrong stream: under the lock of its home
        await desk.answers(1)
        await desk.drained()
        [letter] = await happened(ledger, "dead_letter")
        locked = await happened(ledger, "locked_flushes")
        lent = await happened(ledger, "chain_lent")
    assert letter.shards == [0]
    assert [e.who for e in locked] == [id_of(high)]
    assert [e.who for e in lent] == [id_of(low)]


async def test_an_outage_is_told_with_its_length_and_reason(ledger: Ledger) -> None:
    async with proxied(ledger.engine_dsn) as (between, dsn):
        worker = Worker(
            WorkerStore(dsn, uuid.uuid4().bytes),
            Streams(ledger.redis_url, ledger.prefix),
            None,
            clock,
            SHORT,
        )
        recording = asyncio.create_task(OutageRecorder(worker, ledger.engine_dsn).run())
        async with desk_over(ledger) as desk, ledger.working(worker):
            between.lose("request", b"ledger.flushes")
            await desk.send([transfer()])
            await desk.answers(1)

            async def told() -> list[Event]:
                return await happened(ledger, "outage") + await happened(ledger, "session_ended")

            [outage] = await until(told, "the outage to be told")
        recording.cancel()
    assert outage.who == id_of(worker)
    assert outage.seconds is not None
    assert "Postgres" in outage.what


async def test_what_is_older_is_left_out_and_the_newest_are_kept(ledger: Ledger) -> None:
    async with open_inspection(ledger.app_dsn) as inspection:
        for number in range(5):
            await inspection.record_event(1000 - number, "tried", f"{number}")
        old = await inspection.events(600, 100)
        newest = await inspection.events(2000, 2)
    assert "tried" not in [event.event for event in old]
    assert len(newest) == 2


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("10m", 600), ("2h", 7200), ("5", 5)])
def test_a_duration_is_read(text: str, seconds: int) -> None:
    assert parse_seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "m", "-5m", "1.5h", "ten minutes", "9" * 12])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        parse_seconds(text)
