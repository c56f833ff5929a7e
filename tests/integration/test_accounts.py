"""Accounts that come into being while transfers flow: nobody remembers that one was not there."""

import uuid
from collections.abc import AsyncIterator

import asyncpg
import pytest

from tests.desks import A, B, Desk, account, desk, transfer
from tests.verifying import assert_verified


@pytest.fixture
async def at(postgres_dsn: str, redis_url: str) -> AsyncIterator[Desk]:
    async with desk(postgres_dsn, redis_url) as made:
        yield made


async def test_account_created_in_an_open_transaction(at: Desk) -> None:
    """It is not there for a transfer until it is committed, and then it is."""
    theirs = account(0, 9)
    connection = await asyncpg.connect(at.ledger.dsn)
    try:
        async with at.ledger.working():
            begun = connection.transaction()
            await begun.start()
            await connection.execute(
                "INSERT INTO ledger.accounts (id, ledger, code) VALUES ($1, 1, 1)",
                uuid.UUID(theirs),
            )
            await at.send([transfer(theirs, B), transfer(A, B)])
            await at.answers(1)
            await begun.commit()
            await at.send([transfer(theirs, B), transfer(A, theirs)])
            expected = [["debit_account_not_found", "created"], ["created", "created"]]
            assert await at.answers(2) == expected
    finally:
        await connection.close()
    await assert_verified(at.ledger)


async def test_account_created_after_a_decline_for_want_of_it(at: Desk) -> None:
    theirs = account(0, 9)
    async with at.ledger.working():
        first = transfer(A, theirs)
        await at.send([first, transfer(A, B)])
        await at.answers(1)
        await at.ledger.sql(
            "INSERT INTO ledger.accounts (id, ledger, code) VALUES ($1, 1, 1)", uuid.UUID(theirs)
        )
        await at.send([transfer(A, theirs), first])
        assert await at.answers(2) == [
            ["credit_account_not_found", "created"],
            ["created", "id_already_failed"],
        ]
    await assert_verified(at.ledger)
