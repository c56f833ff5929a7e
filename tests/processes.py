"""A worker in a process of its own, so that it can be killed or frozen.

The processes are forked from one that has imported everything, so that a new one is there at
once.
"""

import asyncio
import contextlib
import ctypes
import multiprocessing
import os
import signal
import sys
import uuid
from collections.abc import AsyncIterator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import structlog

from engine.ledger.nouns import MICROSECONDS
from engine.settings import WorkerSettings
from tests.bounds import PROCESS_SECONDS_MAX
from tests.ledgers import Ledger, clock, ready

PR_SET_PDEATHSIG = 1

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload([__name__])


class WorkerProcess:
    """A process with one worker.

    Args:
        ledger: Whose shards it claims.
        shards: Which; None for its share of all.
        settings: Of the worker.
        dsn: How it reaches Postgres, where not as the ledger says.
        redis_url: How it reaches Redis, where not as the ledger says.
        clock_ahead_seconds: How far its clock is from that of this machine.
        log: A file that gets what it logs, where not standard error.
    """

    def __init__(
        self,
        ledger: Ledger,
        shards: Sequence[int] | None = None,
        settings: WorkerSettings | None = None,
        dsn: str | None = None,
        redis_url: str | None = None,
        clock_ahead_seconds: float = 0.0,
        log: Path | None = None,
    ) -> None:
        self._words, words = _context.Pipe(duplex=False)
        addresses = dsn or ledger.engine_dsn, redis_url or ledger.redis_url, ledger.prefix
        how = settings or WorkerSettings(), shards, round(clock_ahead_seconds * MICROSECONDS)
        self._process = _context.Process(
            target=_run, args=(log, words, addresses, *how), daemon=True
        )
        self.worker = uuid.UUID(int=0)
        """Its id, once it is started."""

    @property
    def exit_code(self) -> int | None:
        """How it ended; None while it runs, and before."""
        return self._process.exitcode

    @property
    def is_running(self) -> bool:
        """Whether it has said who it is, and has not ended."""
        return bool(self.worker.int) and self._process.is_alive()

    async def start(self) -> None:
        """Start it, and wait until it says who it is: it claims from now on."""
        await asyncio.to_thread(self._process.start)
        self.worker = await self._word()

    async def ready(self) -> None:
        """Wait until it reads all its shards."""
        assert await self._word() == "ready"

    async def _word(self) -> Any:
        there = await asyncio.to_thread(self._words.poll, PROCESS_SECONDS_MAX)
        assert there, "the worker says nothing"
        return self._words.recv()

    def freeze(self) -> None:
        self._send(signal.SIGSTOP)

    def thaw(self) -> None:
        self._send(signal.SIGCONT)

    def _send(self, one: signal.Signals) -> None:
        assert self._process.pid is not None
        os.kill(self._process.pid, one)

    async def kill(self) -> None:
        """SIGKILL: nobody is told, and its lease goes on until its end."""
        if self._process.pid is not None:
            self._process.kill()
            await asyncio.to_thread(self._process.join)

    async def stop(self) -> None:
        """Have it finish and give its shards back."""
        self._send(signal.SIGTERM)
        await asyncio.to_thread(self._process.join, PROCESS_SECONDS_MAX)
        assert self._process.exitcode == 0, f"the worker ended with {self._process.exitcode}"


@contextlib.asynccontextmanager
async def working(*processes: WorkerProcess) -> AsyncIterator[None]:
    """Start them, ready; kill at the end what is left of them."""
    try:
        for process in processes:
            await process.start()
        for process in processes:
            await process.ready()
        yield
    finally:
        for process in processes:
            await process.kill()


def _run(
    log: Path | None,
    words: Connection,
    addresses: tuple[str, str, str],
    settings: WorkerSettings,
    shards: Sequence[int] | None,
    ahead: int,
) -> None:
    if sys.platform == "linux":  # so that none outlives the tests, however these end
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    where = sys.stderr if log is None else log.open("a", buffering=1)
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(where))
    asyncio.run(_work(words, addresses, settings, shards, ahead))


async def _work(
    words: Connection,
    addresses: tuple[str, str, str],
    settings: WorkerSettings,
    shards: Sequence[int] | None,
    ahead: int,
) -> None:
    worker = Ledger(*addresses, 0).worker(shards, settings, lambda: clock() + ahead)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, worker.stop)
    words.send(uuid.UUID(bytes=worker.store.worker))
    running = asyncio.create_task(worker.run())
    await ready(worker, running, None)
    words.send("ready")
    await running
