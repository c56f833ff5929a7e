"""That the ledger was verified, and with what result, is written down: `doctor` asks for it."""

import structlog

from engine.errors import EngineError
from engine.store.inspection import open_inspection
from engine.verify.report import Report

_log = structlog.get_logger()


async def record_verification(postgres_dsn: str, report: Report) -> None:
    """Write down what a run of verify found; who may only read leaves no record."""
    failed = [check.name for check in report.checks if not check.passed]
    seconds = sum(check.seconds for check in report.checks)
    try:
        async with open_inspection(postgres_dsn) as inspection:
            await inspection.record_verification(seconds, failed)
    except EngineError as error:
        _log.warning("verification_not_recorded", reason=str(error))
