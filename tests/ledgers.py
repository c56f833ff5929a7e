"""A ledger of its own for a test, on servers that the tests share, and workers over it."""

import asyncio
import contextlib
import inspect
import time
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import redis.asyncio

from engine.settings import WorkerSettings
from engine.store.migrate import migrate
from engine.store.worker_store import WorkerStore
from engine.streams.streams import Streams
from engine.worker.worker import Worker
from tests.bounds import CONDITION_SECONDS_MAX


def clock() -> int:
    """Microseconds since 1970."""
    return time.time_ns() // 1000


class Ledger:
    """A database and a prefix of streams."""

    def __init__(self, dsn: str, redis_url: str, prefix: str, shard_count: int) -> None:
        self.dsn = dsn
        self.redis_url = redis_url
        self.prefix = prefix
        self.shard_count = shard_count

    def worker(
        self,
        shards: Sequence[int] | None = None,
        settings: WorkerSettings | None = None,
        tell_time: Callable[[], int] = clock,
    ) -> Worker:
        """A worker over this ledger, not yet running."""
        store = WorkerStore(self.dsn, uuid.uuid4().bytes)
        return Worker(store, Streams(self.redis_url, self.prefix), shards, tell_time, settings)

    @contextlib.asynccontextmanager
    async def working(self, *workers: Worker) -> AsyncIterator[list[Worker]]:
        """Run workers (one over all shards where none is given), ready, until the block ends."""
        running = list(workers) or [self.worker()]
        tasks = [asyncio.create_task(worker.run()) for worker in running]
        try:
            for worker, task in zip(running, tasks, strict=True):
                await ready(worker, task)
            yield running
        finally:
            for worker in running:
                worker.stop()
            done, stuck = await asyncio.wait(tasks, timeout=CONDITION_SECONDS_MAX)
            assert not stuck, "a worker does not stop"
            for task in done:
                await task

    def redis(self) -> redis.asyncio.Redis:
        """A plain client of the streams' server."""
        # How long a test waits it says itself.
        return redis.asyncio.Redis.from_url(self.redis_url, socket_timeout=None)

    async def sql(self, query: str, *args: Any) -> list[asyncpg.Record]:
        """Rows of one query, on a connection of its own."""
        connection = await asyncpg.connect(self.dsn)
        try:
            rows: list[asyncpg.Record] = await connection.fetch(query, *args)
        finally:
            await connection.close()
        return rows


async def ready(
    worker: Worker, task: "asyncio.Task[None]", seconds_max: float | None = CONDITION_SECONDS_MAX
) -> None:
    """Wait until a worker reads its shards, or take its failure."""
    waiting = asyncio.create_task(worker.ready.wait())
    done, _ = await asyncio.wait(
        [waiting, task], timeout=seconds_max, return_when=asyncio.FIRST_COMPLETED
    )
    waiting.cancel()
    if task in done:
        await task
    assert done, "the worker did not become ready"


async def make_ledger(dsn: str, redis_url: str, shard_count: int = 16) -> Ledger:
    """A new database on the server of `dsn`, migrated, and a fresh prefix."""
    name = f"ledger_{uuid.uuid4().hex[:12]}"
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(f"CREATE DATABASE {name}")
    finally:
        await connection.close()
    own = dsn.rsplit("/", 1)[0] + "/" + name
    await migrate(own, shard_count)
    return Ledger(own, redis_url, name, shard_count)


def as_user(redis_url: str, name: str, password: str = "secret") -> str:
    """The same address, for another user."""
    parts = urlsplit(redis_url)
    place = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{name}:{password}@{place}"))


async def until(condition: Any, what: str, seconds_max: float = CONDITION_SECONDS_MAX) -> Any:
    """Wait, with a bound, for what a function, async or not, returns to be true."""
    deadline = time.monotonic() + seconds_max
    while time.monotonic() < deadline:
        value = condition()
        if inspect.isawaitable(value):
            value = await value
        if value:
            return value
        await asyncio.sleep(0.01)
    raise AssertionError(f"waited {seconds_max} s for {what}")
