"""`engine verify` in a test: every check passes."""

from engine.verify.run import verify
from tests.ledgers import Ledger


async def assert_verified(ledger: Ledger) -> None:
    """Verify a ledger at rest."""
    report = await verify(ledger.dsn, None)
    failed = [(check.name, check.offenders[:3]) for check in report.checks if not check.passed]
    assert not failed, failed
