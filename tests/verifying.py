"""`engine verify` in a test: every check passes, or those fail whose claim was broken."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

from engine.store.snapshot import connect_reader
from engine.verify.report import CheckResult, Report
from engine.verify.run import SETTINGS, checks, run_check, verify
from tests.ledgers import Ledger

Results = dict[str, CheckResult]


async def assert_verified(ledger: Ledger, but: str = "") -> None:
    """Verify a ledger at rest.

    Args:
        ledger: All of it.
        but: A check that must fail: the test altered what it looks at.
    """
    report = await verify(ledger.app_dsn, None)
    assert all(not check.passed for check in report.checks if check.name == but)
    failed = [
        (check.name, check.offenders[:3])
        for check in report.checks
        if not check.passed and check.name != but
    ]
    assert not failed, failed


@contextlib.asynccontextmanager
async def breaking(ledger: Ledger) -> AsyncIterator[Callable[[str], Awaitable[Results]]]:
    """Break the ledger as the superuser, past every trigger; all is taken back at the end."""
    writing = {**SETTINGS, "default_transaction_read_only": "off"}
    connection = await connect_reader(ledger.dsn, writing)
    try:
        await connection.transaction().start()
        await connection.execute("SET LOCAL session_replication_role = replica")

        async def break_with(sql: str) -> Results:
            await connection.execute(sql)
            return {check.name: await run_check(connection, check) for check in checks()}

        yield break_with
    finally:
        await connection.close()


def failed(results: Results) -> set[str]:
    assert all(check.passed == (not check.faults) for check in results.values())
    return {name for name, check in results.items() if not check.passed}


def results_of(report: Report) -> Results:
    assert report.passed == all(check.passed for check in report.checks)
    return {check.name: check for check in report.checks}
