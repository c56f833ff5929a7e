"""Moving shards between workers in a test, as an operator does."""

import asyncio
import contextlib
import os
import random
import sys
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence

from engine.store.operations import open_operations
from engine.streams.streams import Streams
from engine.worker.worker import Worker
from shards.applying import Bounds, PlanResult, apply_plan
from shards.planning import make_plan
from tests.bounds import CONDITION_SECONDS_MAX, PROCESS_SECONDS_MAX
from tests.ledgers import Ledger


def id_of(worker: Worker) -> str:
    """A worker's id as it is written."""
    return str(uuid.UUID(bytes=worker.store.worker))


async def move(ledger: Ledger, targets: Mapping[int, Worker], parallel: int = 4) -> PlanResult:
    """Move shards, and return when they are moved."""
    async with open_operations(ledger.app_dsn) as operations:
        plan = make_plan(
            await operations.shards(),
            await operations.workers(),
            made_at="in a test",
            moves={shard: id_of(worker) for shard, worker in targets.items()},
        )
        streams = Streams(ledger.redis_url, ledger.prefix)
        bounds = Bounds(parallel)
        return await apply_plan(operations, streams, plan, bounds, "a test", lambda _: None)


@contextlib.asynccontextmanager
async def moving(ledger: Ledger, workers: Sequence[Worker], seed: int) -> AsyncIterator[list[int]]:
    """Shards go from worker to worker for the length of the block; yields which, as they go."""
    print(f"seed {seed}")
    chance = random.Random(seed)
    stopping = asyncio.Event()
    moved: list[int] = []

    async def keep_moving() -> None:
        while not stopping.is_set():
            shards = chance.sample(range(ledger.shard_count), min(3, ledger.shard_count))
            applied = await move(ledger, {shard: chance.choice(workers) for shard in shards})
            moved.extend(record.shard for record in applied.moved)

    task = asyncio.create_task(keep_moving())
    try:
        yield moved
    finally:
        stopping.set()
        await asyncio.wait_for(task, CONDITION_SECONDS_MAX)


class Ended:
    """How a command ended and what it printed."""

    def __init__(self, code: int, out: bytes, err: bytes) -> None:
        self.code = code
        self.out = out.decode()
        self.err = err.decode()


async def start_shards(ledger: Ledger, *words: str) -> asyncio.subprocess.Process:
    """The program `shards`, under way."""
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "shards.commands", *words),
        env={
            **os.environ,
            "ENGINE_POSTGRES_DSN": ledger.app_dsn,
            "ENGINE_REDIS_URL": ledger.redis_url,
            "ENGINE_PREFIX": ledger.prefix,
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def run_shards(ledger: Ledger, *words: str) -> Ended:
    """The program `shards`, to its end."""
    process = await start_shards(ledger, *words)
    out, err = await asyncio.wait_for(process.communicate(), PROCESS_SECONDS_MAX)
    assert process.returncode is not None
    return Ended(process.returncode, out, err)
