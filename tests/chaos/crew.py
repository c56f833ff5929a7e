"""Four workers in processes of their own, each with its own links to the servers."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Final

from engine.settings import WorkerSettings
from tests.ledgers import OF_CLUSTERS, Ledger
from tests.processes import WorkerProcess
from tests.proxies import Proxy, proxied

WORKERS: Final = 4
SETTINGS: Final = WorkerSettings(lease_seconds=1.0, block_ms=200)


class Crew:
    """The workers, by their seats; a new one takes the seat of one that ended.

    Args:
        ledger: Theirs.
        postgres: The DSN of the server itself, where their links lead.
        say: Gets who starts.
        log: A file that gets what they log.
    """

    def __init__(
        self, ledger: Ledger, postgres: str, say: Callable[[str], None], log: Path
    ) -> None:
        self._ledger = ledger
        self._postgres = postgres
        self._log = log
        self._say = say
        self._addresses: list[tuple[str, str]] = []
        self.links: list[tuple[Proxy, ...]] = []
        """Of each seat, to Postgres and to Redis; not to the nodes of a cluster."""
        self.workers: list[WorkerProcess] = []
        self._starting: set[asyncio.Task[None]] = set()
        self.lease_seconds = SETTINGS.lease_seconds

    @contextlib.asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        """All of them at work for the length of the block, and stopped at its end."""
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(WORKERS):
                to_postgres, dsn = await stack.enter_async_context(proxied(self._ledger.engine_dsn))
                await to_postgres.point_at(self._postgres)
                links, url = (to_postgres,), self._ledger.redis_url
                if not url.startswith(OF_CLUSTERS):
                    to_redis, url = await stack.enter_async_context(proxied(url))
                    links = to_postgres, to_redis
                self.links.append(links)
                self._addresses.append((dsn, url))
            self.workers = [self._new(seat) for seat in range(WORKERS)]
            try:
                await asyncio.gather(*(worker.start() for worker in self.workers))
                yield
                for worker in self.workers:
                    await worker.stop()
            finally:
                for worker in self.workers:
                    await worker.kill()

    def _new(self, seat: int) -> WorkerProcess:
        dsn, url = self._addresses[seat]
        return WorkerProcess(self._ledger, settings=SETTINGS, dsn=dsn, redis_url=url, log=self._log)

    def any_running(self, chance: random.Random) -> int | None:
        """The seat of one that runs; it takes a while until a new one does."""
        running = [seat for seat, worker in enumerate(self.workers) if worker.is_running]
        return chance.choice(running) if running else None

    def check(self) -> None:
        """Raises AssertionError where a process ended that nobody ended."""
        for seat, worker in enumerate(self.workers):
            if worker.exit_code is not None:
                last = self._log.read_text().splitlines()[-3:] if self._log.exists() else []
                raise AssertionError(
                    f"worker {seat} ended with {worker.exit_code}; its log: {last}"
                )

    async def kill(self, seat: int) -> None:
        """SIGKILL, and start another."""
        await self.workers[seat].kill()
        self._start(seat)

    async def stop(self, seat: int) -> None:
        """TERM, and start another."""
        await self.workers[seat].stop()
        self._start(seat)

    def _start(self, seat: int) -> None:
        worker = self.workers[seat] = self._new(seat)

        async def start() -> None:
            await worker.start()
            self._say(f"  worker {seat} is started")

        task = asyncio.create_task(start())
        self._starting.add(task)
        task.add_done_callback(self._starting.discard)

    async def complete(self) -> None:
        """Wait until all are started."""
        await asyncio.gather(*self._starting)

    async def visit(self, clock_ahead_seconds: float, seconds: float) -> None:
        """Have one more join for a while, with another clock; it may refuse to."""
        visitor = WorkerProcess(
            self._ledger,
            settings=SETTINGS,
            clock_ahead_seconds=clock_ahead_seconds,
            log=self._log,
        )
        try:
            await visitor.start()
            await asyncio.sleep(seconds)
            if visitor.exit_code is None:
                await visitor.stop()
        finally:
            await visitor.kill()
