"""Accounts as a worker loads them, and those that come into being while transfers flow."""

import random
import uuid
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from engine.store.worker_store import WorkerStore
from tests.authors import WORKERS, Author, copy_flush, new_accounts
from tests.desks import A, B, Desk, account, desk, transfer
from tests.ledgers import Ledger
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


async def test_an_account_is_loaded_with_the_sums_over_all_its_stripes(ledger: Ledger) -> None:
    """Whoever asks writes one of them, or none yet; the others lie on either side of it."""
    author, draw = Author(await new_accounts(ledger, 40)), random.Random(3)
    writer = await asyncpg.connect(ledger.dsn)
    for turn in range(6):
        shards = [(n, shard) for n in author.accounts.values() for shard in range(16)]
        runs = {n * 1024 + shard: draw.choice([1, 3]) for n, shard in draw.sample(shards, 30)}
        await copy_flush(writer, author.write(WORKERS[0], turn, runs))
    await writer.close()
    store = WorkerStore(ledger.engine_dsn, uuid.uuid4().bytes)
    await store.open()
    stripes_seen = set()
    try:
        for owned, writing in ((range(16), 0), ((), 0), ((), 7), ((), 15), (range(0, 16, 2), 4)):
            ids = [one.bytes for one in author.accounts]
            loaded = await store.load_accounts(ids, owned, writing)
            assert len(loaded.ids) == len(author.accounts)
            times_seen = [0]
            for place, account_id in enumerate(loaded.ids.tolist()):
                newest: dict[int, tuple[Any, ...]] = {}
                for posting in author.history(uuid.UUID(bytes=account_id)):
                    newest.setdefault(posting[5], posting)
                stripes_seen.add(len(newest))
                home = int(loaded.shard[place])
                mine = newest.pop(home if home in owned else writing, None)
                others = list(newest.values())
                if home not in owned:  # then the home alone is looked at
                    others = [posting for posting in others if posting[5] == home]
                else:
                    times_seen += [round(p[0].timestamp() * 1_000_000) for p in others]
                assert (loaded.version[place], *loaded.own[:, place]) == (
                    mine[6:] if mine else (0,) * 5
                )
                assert loaded.others[:, place].tolist() == [
                    sum(p[column] for p in others) for column in range(7, 11)
                ]
            assert loaded.others_time == max(times_seen)
    finally:
        store.drop()
    assert {1, 2, 3, 4} <= stripes_seen
