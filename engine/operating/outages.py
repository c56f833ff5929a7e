"""Outages are written down: from the end of a worker's session until it works again."""

import asyncio
from typing import Final

import structlog

from engine.errors import EngineError, TryAgainError
from engine.store.inspection import open_inspection
from engine.worker.worker import Worker

OUTAGE_SECONDS_MAX: Final = 600.0
"""One that goes on is written down by then, where that is possible."""
RETRY_SECONDS: Final = 1.0
AGAIN_SECONDS: Final = 60.0
"""Those that begin within it after one was written down are written down together."""

_log = structlog.get_logger()


class OutageRecorder:
    """Hears a worker's sessions end, and writes each outage into `ledger.events`.

    Args:
        worker: Whose sessions.
        postgres_dsn: The ledger.
    """

    def __init__(self, worker: Worker, postgres_dsn: str) -> None:
        self._worker = worker
        self._dsn = postgres_dsn
        self._reason: str | None = None
        self._times = 0
        self._began = 0.0
        self._ended = asyncio.Event()
        worker.subscribe_to_ends(self._hear)

    def _hear(self, error: EngineError) -> None:
        self._times += 1
        # Of attempts that fail one after the other the first says why.
        if self._reason is None:
            self._reason = str(error)
            self._began = asyncio.get_running_loop().time()
            self._ended.set()

    async def run(self) -> None:
        """Write down outages, for ever."""
        loop = asyncio.get_running_loop()
        together_until = 0.0
        while True:
            await self._ended.wait()
            still = ""
            is_together = loop.time() < together_until
            await asyncio.sleep(together_until - loop.time())
            try:
                async with asyncio.timeout(OUTAGE_SECONDS_MAX):
                    await self._worker.ready.wait()
            except TimeoutError:
                still = ", and it has not ended yet"
            lasted = loop.time() - self._began
            if is_together and self._times > 1:
                still += f"; {self._times} sessions ended meanwhile"
            together_until = loop.time() + AGAIN_SECONDS
            reason, self._reason, self._times = self._reason or "", None, 0
            self._ended.clear()
            await self._write(reason + still, self._began, lasted)

    async def _write(self, reason: str, began: float, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        event = "outage" if "out of reach" in reason else "session_ended"
        while True:
            try:
                async with open_inspection(self._dsn) as inspection:
                    await inspection.record_event(
                        loop.time() - began,
                        event,
                        reason,
                        worker=self._worker.store.worker,
                        seconds=seconds,
                    )
            except TryAgainError:
                await asyncio.sleep(RETRY_SECONDS)
            except EngineError as error:
                _log.warning("event_not_recorded", event_name=event, reason=str(error))
                return
            else:
                return
