"""A real `engine worker` in a process of its own, of which its log and its memory are watched."""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any, Final

from tests.bounds import PROCESS_SECONDS_MAX
from tests.ledgers import Ledger

SESSION_ENDED: Final = "session_ended"
"""The event of a worker's log that no data may cause."""


def environment(ledger: Ledger) -> dict[str, str]:
    """Of a command that is to find a ledger."""
    return {
        **os.environ,
        "ENGINE_POSTGRES_DSN": ledger.app_dsn,
        "ENGINE_REDIS_URL": ledger.redis_url,
        "ENGINE_PREFIX": ledger.prefix,
    }


class WatchedWorker:
    """One process of workers.

    Args:
        ledger: Over which.
        log: Where its log goes.
        workers: How many in the process.
    """

    def __init__(self, ledger: Ledger, log: Path, workers: int = 1) -> None:
        self._ledger = ledger
        self._log = log
        self._workers = workers
        self._read = 0
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start it, and wait until it works on all shards."""
        with self._log.open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "engine.commands.main", "worker", "--json"),
                *("--workers", str(self._workers), "--log-level", "info"),
                env=environment(self._ledger),
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
            )
        assert self._process.stdout is not None
        line = await asyncio.wait_for(self._process.stdout.readline(), PROCESS_SECONDS_MAX)
        assert b"ready" in line, self._log.read_text()

    @property
    def exit_code(self) -> int | None:
        """How it ended; None while it runs."""
        assert self._process is not None
        return self._process.returncode

    def memory_bytes_max(self) -> int:
        """The most memory that it ever had; 0 where the system does not say."""
        assert self._process is not None
        status = Path(f"/proc/{self._process.pid}/status")
        if not status.exists():
            return 0
        peak = [line for line in status.read_text().splitlines() if line.startswith("VmHWM")]
        return int(peak[0].split()[1]) * 1024 if peak else 0

    def new_events(self) -> list[dict[str, Any]]:
        """What it logged since the last time; what is no line of JSON is an event `raw`."""
        with self._log.open("rb") as file:
            file.seek(self._read)
            text = file.read()
        text = text[: text.rfind(b"\n") + 1]
        self._read += len(text)
        return [_event(line) for line in text.splitlines()]

    async def stop(self) -> int:
        """TERM, and how it ended."""
        assert self._process is not None
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGTERM)
        return await asyncio.wait_for(self._process.wait(), PROCESS_SECONDS_MAX)

    async def kill(self) -> None:
        """SIGKILL, if it still runs."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()


def _event(line: bytes) -> dict[str, Any]:
    try:
        event = json.loads(line)
    except ValueError:
        event = None
    return (
        event
        if isinstance(event, dict)
        else {"event": "raw", "line": line.decode("utf8", "replace")}
    )
