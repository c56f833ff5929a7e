"""What tests of privileges have in common: connections, and statements that are refused."""

from collections.abc import Awaitable, Callable

import asyncpg
import pytest

from tests.ledgers import Ledger

Connected = Callable[..., Awaitable[asyncpg.Connection]]
"""Connects by an address, as often as a test wants, until its end."""

DENIED = asyncpg.InsufficientPrivilegeError

CONTRACT = (
    "accounts", "transfers", "declined", "postings", "balances", "holds", "dead_letters", "shards",
    "workers", "flushes",
)  # fmt: skip
"""Which everybody reads."""


async def refused(connection: asyncpg.Connection, statement: str) -> None:
    """A statement that the role may not run; if it may, nothing of it stays."""
    transaction = connection.transaction()
    await transaction.start()
    try:
        print(statement)  # shown where it was allowed
        with pytest.raises((DENIED, asyncpg.InvalidGrantOperationError)):
            await connection.execute(statement)
    finally:
        await transaction.rollback()


Connected = Callable[..., Awaitable[asyncpg.Connection]]


def logins_of(ledger: Ledger) -> list[str]:
    return [ledger.engine_dsn, ledger.client_dsn, ledger.app_dsn]
