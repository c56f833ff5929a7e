"""The end of a worker's chain in its log, which is kept where the ledger's owner alters nothing."""

import asyncio
from typing import Final

import msgspec
import structlog

from engine.errors import TryAgainError
from engine.store.inspection import ChainHead, open_inspection
from engine.worker.worker import Worker

LOG_SECONDS: Final = 60.0

_log = structlog.get_logger()


class HeadLog:
    """Logs a worker's head each minute in which its chain grew.

    Args:
        worker: Whose chain.
        postgres_dsn: The ledger.
        seconds: How often.
    """

    def __init__(self, worker: Worker, postgres_dsn: str, seconds: float = LOG_SECONDS) -> None:
        self._worker = worker
        self._dsn = postgres_dsn
        self._seconds = seconds
        self._logged: ChainHead | None = None

    async def run(self) -> None:
        """Log for ever; what cannot be read now is read a minute later."""
        while True:
            await asyncio.sleep(self._seconds)
            try:
                async with open_inspection(self._dsn) as inspection:
                    head = await inspection.chain_head(self._worker.store.worker)
            except TryAgainError as error:
                _log.warning("chain_head_not_read", reason=str(error))
                continue
            if head is not None and head != self._logged:
                self._logged = head
                _log.info("chain_head", **msgspec.structs.asdict(head))
