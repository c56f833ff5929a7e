"""Twelve nights: each incident is made on real servers. Its alert fires by the real /metrics, the
doctor names its cause first, and the command that he says next mends it."""

import contextlib
import json
import shlex
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import redis.exceptions

from engine.servers import Servers
from engine.servers.valkey_server import ValkeyServer
from engine.settings import WorkerSettings
from tests.desks import desk_over, transfer
from tests.ledgers import Ledger, make_ledger, until
from tests.machines import Machine
from tests.moving import id_of
from tests.on_call import OnCall, Watch, runbook, scrape
from tests.processes import WorkerProcess, working

FIRST, SECOND = range(8), range(8, 16)
"""The shards of two workers."""
SHORT = WorkerSettings(lease_seconds=1.0)


def test_the_runbook_has_the_twelve_incidents() -> None:
    assert len(runbook()) >= 12


async def test_a_frozen_worker_is_told_named_and_mended(ledger: Ledger, watch: Watch) -> None:
    frozen = WorkerProcess(ledger, FIRST, SHORT)
    other = ledger.worker(SECOND, SHORT)
    async with (
        desk_over(ledger) as desk,
        working(frozen),
        ledger.working(other),
        watch(ledger, other) as night,
    ):
        frozen.freeze()
        await desk.send([transfer()])
        found = await night.is_called("a worker frozen or dead")
        async with night.running(found.command):
            await desk.answers(1)
            await night.is_mended()


async def test_postgres_away_is_told_named_and_mended(
    servers: Servers, ledger: Ledger, watch: Watch
) -> None:
    worker = ledger.worker()
    async with desk_over(ledger) as desk, ledger.working(worker), watch(ledger, worker) as night:
        servers.postgres.kill()
        try:
            await desk.send([transfer()])
            await night.is_called("Postgres away")
        finally:
            servers.postgres.start()
        await desk.answers(1)
        await until(worker.ready.is_set, "the worker to work again by itself")
        await night.is_mended()


async def test_a_full_redis_is_told_named_and_mended(
    ledger: Ledger, other_redis: ValkeyServer, watch: Watch
) -> None:
    full = await make_ledger(ledger.dsn, other_redis.url)
    worker = full.worker()
    async with desk_over(full) as desk, full.working(worker), watch(full, worker) as night:
        info = await desk.redis.info("memory")
        await desk.redis.config_set("maxmemory", info["used_memory"] * 100 // 101)
        try:
            with pytest.raises(redis.exceptions.OutOfMemoryError):
                await desk.send([transfer()])
            found = await night.is_called("Redis full")
            await night.run(found.command)
            await desk.ask()
            await night.is_mended()
        finally:
            await desk.redis.config_set("maxmemory", 0)


async def test_another_redis_than_the_workers_is_told_named_and_mended(
    ledger: Ledger, other_redis: ValkeyServer, watch: Watch
) -> None:
    """A process was given the wrong address: the one that it was given is what mends it."""
    async with desk_over(ledger) as desk, ledger.working() as [worker]:
        await desk.ask()
        async with watch(ledger, worker) as night:
            night.redis_url = other_redis.url
            found = await night.is_called("Redis another than the workers'")
            assert str(urlsplit(other_redis.url).port) in found.command
            assert "role" in await night.run(found.command)
            night.redis_url = ledger.redis_url
            await night.is_mended()


async def test_a_poison_entry_is_told_named_and_mended(
    ledger: Ledger, watch: Watch, tmp_path: Path
) -> None:
    async with (
        desk_over(ledger) as desk,
        ledger.working() as [worker],
        watch(ledger, worker) as night,
    ):
        poison = transfer() | {"amount": "1.00"}
        await desk.redis.xadd(desk.stream(), {"json": json.dumps(poison)})
        await desk.drained()
        found = await night.is_called("poison entry")
        assert "amount" in await night.run(found.command)
        payload = await night.run(f"{found.command} --payload")
        fixed = tmp_path / "fixed.json"
        fixed.write_text(payload.replace('"1.00"', "100"))
        letter = found.command.rpartition(" ")[2]
        await night.run(shlex.join(["engine", "letters", "resend", letter, str(fixed)]))
        await desk.drained()
        assert await desk.count() == 1
        await night.is_mended()


async def test_an_unowned_shard_is_told_named_and_mended(ledger: Ledger, watch: Watch) -> None:
    worker = ledger.worker(SECOND)
    async with (
        desk_over(ledger) as desk,
        ledger.working(worker),
        contextlib.AsyncExitStack() as nights,
    ):
        async with ledger.working(ledger.worker(FIRST)):
            night = await nights.enter_async_context(watch(ledger, worker))
        await desk.send([transfer()])
        found = await night.is_called("unowned shard")
        assert found.command == "engine worker --shards 0-7"
        async with night.running(found.command):
            await desk.answers(1)
            await night.is_mended()


async def test_drained_workers_only_are_told_named_and_mended(ledger: Ledger, watch: Watch) -> None:
    """One that was told its shards is drained, and the other ends."""
    drained = ledger.worker(FIRST, SHORT)
    async with (
        desk_over(ledger) as desk,
        ledger.working(drained),
        contextlib.AsyncExitStack() as nights,
    ):
        async with ledger.working(ledger.worker(settings=SHORT)):
            night = await nights.enter_async_context(watch(ledger, drained))
            await night.run(f"shards drain {id_of(drained)}")
        await desk.send([transfer()], shard=SECOND[0])
        found = await night.is_called("drained workers only")
        assert "drained" in found.finding
        async with night.running(found.command):
            await desk.answers(1)
            await night.is_mended()


async def test_a_tampered_posting_is_told_named_and_mended(ledger: Ledger, watch: Watch) -> None:
    async with desk_over(ledger) as desk, ledger.working() as [worker]:
        await desk.ask(amount=5)
        async with watch(ledger, worker) as night:
            await _tamper(ledger, 1)
            await night.run("engine verify --json", code=1)
            found = await night.is_called("tampered posting")
            assert found.command == "engine verify --json"
            await _tamper(ledger, -1)
            await night.run(found.command)
            await night.is_mended()


async def _tamper(ledger: Ledger, amount: int) -> None:
    await ledger.sql("ALTER TABLE ledger.posted DISABLE TRIGGER USER")
    await ledger.sql("UPDATE ledger.posted SET amount = amount + $1 WHERE amount > 0", amount)
    await ledger.sql("ALTER TABLE ledger.posted ENABLE TRIGGER USER")


async def test_a_wrong_clock_is_told_named_and_mended(
    ledger: Ledger, watch: Watch, machine: Machine
) -> None:
    """A worker's machine gets ahead of Postgres while it works; then its clock is set right."""
    async with desk_over(ledger) as desk, watch_of_nobody(ledger, watch) as night:
        command = "engine worker --metrics 127.0.0.1:0"
        async with night.running(command, **machine.environment) as said:
            await desk.ask()
            before = await scrape(said["metrics"])
            machine.clock_ahead_seconds = 20.0
            await desk.send([transfer()])
            # By everybody else: the worker says so itself.
            found = await night.is_named("clock skew")
            assert "clock" in found.finding
            # On that machine.
            [first, *_] = await night.doctor(**machine.environment)
            assert (first["rule"], first["severity"]) == ("clocks_differ", "urgent")
            await until(lambda: _told_skew(said["metrics"]), "the metrics to tell it")
            night.note(before)
            await night.fires(runbook()["clock skew"]["alert"], said["metrics"])
            machine.clock_ahead_seconds = 0.0
            await desk.answers(2)
            await night.is_mended()


async def _told_skew(address: str) -> bool:
    told = await scrape(address)
    return told['engine_clock_skew_seconds{server="postgres"}'] < -10


@contextlib.asynccontextmanager
async def watch_of_nobody(ledger: Ledger, watch: Watch) -> AsyncIterator[OnCall]:
    """On call at a process without workers, for a ledger that had one for a moment."""
    async with contextlib.AsyncExitStack() as nights:
        async with ledger.working():
            night = await nights.enter_async_context(watch(ledger))
        yield night
