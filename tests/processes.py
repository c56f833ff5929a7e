"""A worker in a process of its own, so that it can be killed or frozen.

As a program it is that worker: `python -m tests.processes DSN REDIS PREFIX SETTINGS SHARDS`.
"""

import asyncio
import contextlib
import json
import signal
import sys
import uuid
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import msgspec
import structlog

from engine.settings import WorkerSettings
from tests.ledgers import Ledger, ready

ROOT = Path(__file__).parent.parent
START_SECONDS_MAX = 60.0


class WorkerProcess:
    """A process with one worker.

    Args:
        ledger: Whose shards it claims.
        shards: Which; None for all.
        settings: Of the worker.
        dsn: How it reaches Postgres, where not as the ledger says.
        redis_url: The same for Redis.
    """

    def __init__(
        self,
        ledger: Ledger,
        shards: Sequence[int] | None = None,
        settings: WorkerSettings | None = None,
        dsn: str | None = None,
        redis_url: str | None = None,
    ) -> None:
        self._arguments = [
            dsn or ledger.dsn,
            redis_url or ledger.redis_url,
            ledger.prefix,
            msgspec.json.encode(settings or WorkerSettings()).decode(),
            json.dumps(shards),
        ]
        self._process: asyncio.subprocess.Process | None = None
        self.worker = uuid.UUID(int=0)
        """Its id, once it is started."""

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    async def start(self) -> None:
        """Start it, and wait until it says who it is: it claims from now on."""
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.processes", *self._arguments),
            cwd=ROOT,
            stdout=asyncio.subprocess.PIPE,
        )
        self.worker = uuid.UUID(await self._line())

    async def ready(self) -> None:
        """Wait until it reads all its shards."""
        assert await self._line() == "ready"

    async def _line(self) -> str:
        assert self._process is not None
        assert self._process.stdout is not None
        line = await asyncio.wait_for(self._process.stdout.readline(), START_SECONDS_MAX)
        return line.decode().strip()

    def send(self, one: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(one)

    def freeze(self) -> None:
        self.send(signal.SIGSTOP)

    def thaw(self) -> None:
        self.send(signal.SIGCONT)

    async def kill(self) -> None:
        """SIGKILL: nobody is told, and its lease goes on until its end."""
        assert self._process is not None
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()

    async def stop(self) -> None:
        """Have it finish and give its shards back."""
        self.send(signal.SIGTERM)
        assert self._process is not None
        assert await asyncio.wait_for(self._process.wait(), START_SECONDS_MAX) == 0


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
            if process.is_running:
                await process.kill()


async def _work(dsn: str, redis_url: str, prefix: str, settings: str, shards: str) -> None:
    ledger = Ledger(dsn, redis_url, prefix, 0)
    worker = ledger.worker(json.loads(shards), msgspec.json.decode(settings, type=WorkerSettings))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, worker.stop)
    print(uuid.UUID(bytes=worker.store.worker), flush=True)
    running = asyncio.create_task(worker.run())
    await ready(worker, running, None)
    print("ready", flush=True)
    await running


if __name__ == "__main__":
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    asyncio.run(_work(*sys.argv[1:]))
