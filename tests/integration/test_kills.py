"""Workers, Postgres and Redis are killed under load; the books reconcile all the same."""

import asyncio
import contextlib
import os
import random
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from engine.servers import Servers
from tests.bounds import CONDITION_SECONDS_MAX, PROCESS_SECONDS_MAX
from tests.ledgers import Ledger, make_ledger, until
from tests.producers import Producers
from tests.verifying import assert_verified

PRODUCERS = 6
SEED = int(os.environ.get("SEED", time.time_ns() % 100_000))


@pytest.fixture
def own_servers(tmp_path: Path) -> Iterator[Servers]:
    """Servers that this test may kill."""
    with Servers(tmp_path, postgres_settings={"shared_buffers": "128MB"}) as servers:
        yield servers


class WorkerProcess:
    """`engine worker` in a process of its own."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "engine.commands.main", "worker", "--workers", "2"),
            *("--json", "--log-level", "warning"),
            env={
                **os.environ,
                "ENGINE_POSTGRES_DSN": self._ledger.dsn,
                "ENGINE_REDIS_URL": self._ledger.redis_url,
                "ENGINE_PREFIX": self._ledger.prefix,
            },
            stdout=asyncio.subprocess.PIPE,
        )

    async def ready(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        line = await asyncio.wait_for(self._process.stdout.readline(), PROCESS_SECONDS_MAX)
        assert b"ready" in line, line

    async def kill(self) -> None:
        """SIGKILL, and let the lease end at once, as a supervisor that saw it may do."""
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        await self._process.wait()
        await self._ledger.sql("UPDATE ledger.heartbeats SET expires_at = clock_timestamp()")

    async def stop(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(self._process.wait(), PROCESS_SECONDS_MAX) == 0


@contextlib.asynccontextmanager
async def producing(ledger: Ledger, seed: int) -> AsyncIterator[Producers]:
    """Load for the length of the block; then all answers are held against the ledger."""
    print(f"seed {seed}")
    producers = Producers(ledger, seed)
    await producers.create_accounts()
    tasks = [asyncio.create_task(producers.produce(f"p{n}")) for n in range(PRODUCERS)]
    try:
        yield producers
    finally:
        producers.stopping = True
        await asyncio.wait_for(asyncio.gather(*tasks), CONDITION_SECONDS_MAX)


async def drained(ledger: Ledger) -> None:
    """Wait until all that Redis holds is decided."""
    async with ledger.redis() as redis:

        async def empty() -> bool:
            names = [f"{ledger.prefix}:transfers:{{{n:04d}}}" for n in range(ledger.shard_count)]
            return sum([await redis.xlen(name) for name in names]) == 0

        await until(empty, "the streams to be empty")


async def more_answers(producers: Producers, count: int) -> None:
    goal = len(producers.answered) + count

    async def answered() -> bool:
        return len(producers.answered) >= goal

    await until(answered, f"{count} more answers")


async def test_workers_killed_twenty_times_under_load(own_servers: Servers) -> None:
    ledger = await make_ledger(own_servers.postgres.dsn, own_servers.valkey.url)
    chance = random.Random(SEED)
    worker = WorkerProcess(ledger)
    await worker.start()
    async with producing(ledger, SEED) as producers:
        for _ in range(20):
            await worker.ready()
            await more_answers(producers, chance.randint(1, 300))
            await asyncio.sleep(chance.random() * 0.05)  # the moment is any moment
            await worker.kill()
            worker = WorkerProcess(ledger)
            await worker.start()
        await more_answers(producers, 300)
    await drained(ledger)
    await worker.stop()
    await producers.check()
    await assert_verified(ledger)


async def test_servers_killed_under_load(own_servers: Servers) -> None:
    """Postgres stopped immediately and killed; Redis killed, and killed and wiped."""
    ledger = await make_ledger(own_servers.postgres.dsn, own_servers.valkey.url)
    postgres, valkey = own_servers.postgres, own_servers.valkey
    async with ledger.working(ledger.worker(range(8)), ledger.worker(range(8, 16))):
        async with producing(ledger, SEED) as producers:
            for round_ in range(3):
                await more_answers(producers, 200)
                await asyncio.to_thread(postgres.stop, "immediate")
                await asyncio.to_thread(postgres.start)
                await more_answers(producers, 200)
                await asyncio.to_thread(valkey.kill)
                if round_:
                    valkey.wipe()
                await asyncio.to_thread(valkey.start)
            await more_answers(producers, 200)
        await drained(ledger)
    await producers.check()
    await assert_verified(ledger)
