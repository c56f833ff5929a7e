"""A ledger altered with a superuser's rights, and what `verify --chain` says of it."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

from engine.store.snapshot import connect_reader
from engine.verify.chain import check_chain
from engine.verify.heads import Heads
from engine.verify.report import Report
from engine.verify.run import SETTINGS, checks, run_check
from tests.ledgers import Ledger


@contextlib.asynccontextmanager
async def altering(
    ledger: Ledger,
) -> AsyncIterator[Callable[[str, Heads | None], Awaitable[tuple[Report, set[str]]]]]:
    """Alter the ledger as the superuser, past every trigger; all is taken back at the end."""
    writing = {**SETTINGS, "default_transaction_read_only": "off"}
    connection = await connect_reader(ledger.dsn, writing)
    try:
        await connection.transaction().start()
        await connection.execute("SET LOCAL session_replication_role = replica")

        async def alter(sql: str, kept: Heads | None = None) -> tuple[Report, set[str]]:
            done = await connection.execute(sql)
            assert not done.endswith(" 0"), f"nothing was altered: {sql}"
            results = [await run_check(connection, check) for check in checks()]
            failed = {result.name for result in results if not result.passed}
            return await check_chain(connection, kept), failed

        yield alter
    finally:
        await connection.close()
