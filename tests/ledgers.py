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
from redis.asyncio.cluster import ClusterNode

from engine.settings import WorkerSettings
from engine.store.migrate import migrate
from engine.store.roles import Login, apply_roles
from engine.store.worker_store import WorkerStore
from engine.streams.streams import Streams
from engine.worker.worker import Worker
from tests.bounds import CONDITION_SECONDS_MAX

OF_CLUSTERS = "redis+cluster://"


def clock() -> int:
    """Microseconds since 1970."""
    return time.time_ns() // 1000


class Ledger:
    """A database and a prefix of streams.

    Args:
        dsn: The owner's, for what a test does by hand.
        redis_url: Of the streams.
        prefix: Of their names.
        shard_count: Of the ledger.
        engine_dsn: As whom workers log in, where not as the owner.
        client_dsn: As whom producers log in, where not as the owner.
        app_dsn: As whom people's commands log in, where not as the owner.
    """

    def __init__(
        self,
        dsn: str,
        redis_url: str,
        prefix: str,
        shard_count: int,
        engine_dsn: str | None = None,
        client_dsn: str | None = None,
        app_dsn: str | None = None,
    ) -> None:
        self.dsn = dsn
        self.engine_dsn = engine_dsn or dsn
        self.client_dsn = client_dsn or dsn
        self.app_dsn = app_dsn or dsn
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
        store = WorkerStore(self.engine_dsn, uuid.uuid4().bytes)
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

    def redis(self) -> Any:
        """A plain client of the streams' server, or of their cluster."""
        return redis_at(self.redis_url)

    async def sql(self, query: str, *args: Any) -> list[asyncpg.Record]:
        """Rows of one query, on a connection of its own."""
        connection = await asyncpg.connect(self.dsn)
        try:
            rows: list[asyncpg.Record] = await connection.fetch(query, *args)
        finally:
            await connection.close()
        return rows


def redis_at(url: str) -> Any:
    """A plain client of a Redis, or of a cluster. How long a test waits it says itself."""
    if not url.startswith(OF_CLUSTERS):
        return redis.asyncio.Redis.from_url(url, socket_timeout=None)
    userinfo, _, nodes = url.removeprefix(OF_CLUSTERS).rpartition("@")
    places = [node.rpartition(":") for node in nodes.split(",")]
    return redis.asyncio.RedisCluster(
        startup_nodes=[ClusterNode(host, int(port)) for host, _, port in places],
        password=userinfo.rpartition(":")[2] or None,
        socket_timeout=None,
    )


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
    """A new database on the server of `dsn`, migrated, and a fresh prefix.

    Its workers may do what the engine's role may and no more, its producers what a creator and a
    reader may.
    """
    name = f"ledger_{uuid.uuid4().hex[:12]}"
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(f"CREATE DATABASE {name}")
    finally:
        await connection.close()
    own = dsn.rsplit("/", 1)[0] + "/" + name
    await migrate(own, shard_count)
    logins = [
        Login(f"{name}_worker", "secret", ("engine",)),
        Login(f"{name}_client", "secret", ("creator", "reader")),
        Login(f"{name}_app", "secret", ("engine", "creator")),
    ]
    await apply_roles(own, logins=logins)
    dsns = [as_user(own, login.name) for login in logins]
    return Ledger(own, redis_url, name, shard_count, *dsns)


def as_user(address: str, name: str, password: str = "secret") -> str:
    """The same address, of Redis or Postgres, for another user."""
    parts = urlsplit(address)
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
