"""A worker whose shard was taken commits nothing more, by either way of flushing."""

import uuid

import numpy as np
import pytest

from engine.errors import LostOwnershipError
from engine.rows import POSTED
from engine.store.owning import NOBODY
from engine.store.postgres import PostgresStore
from engine.store.rows import DeadLetter, Flush, Owned, Position
from tests.ledgers import Ledger, clock, make_ledger
from tests.verifying import assert_verified


async def opened(ledger: Ledger, lease_seconds: float) -> PostgresStore:
    store = PostgresStore(ledger.dsn, uuid.uuid4().bytes)
    await store.open()
    await store.owning.register(lease_seconds)
    return store


async def claim(store: PostgresStore, owner: bytes, sequence: int) -> dict[int, Owned]:
    return await store.owning.claim(owner, [0], sequence=sequence, time=clock())


@pytest.mark.parametrize("by_copy", [False, True], ids=["one statement", "by COPY"])
async def test_who_was_taken_over_commits_nothing(
    by_copy: bool, postgres_dsn: str, redis_url: str
) -> None:
    ledger = await make_ledger(postgres_dsn, redis_url, shard_count=1)
    paused, taker = await opened(ledger, 0), await opened(ledger, 60)
    assert await claim(paused, NOBODY, 1)
    before = await paused.load_ownership()

    def flush(sequence: int, number: int) -> Flush:
        position = Position(0, 1000 + sequence, 0)
        letters = [DeadLetter(0, position, "for the test", [b"a", b"b"])] if by_copy else []
        rows = np.empty(0, POSTED)
        return Flush(sequence, number, clock(), [], rows, {0: position}, letters)

    number = await paused.flush(flush(before.sequence + 1, before.number))
    assert await claim(taker, paused.worker, 1)
    with pytest.raises(LostOwnershipError):
        await paused.flush(flush(before.sequence + 2, number))
    # The living one is not to be robbed in turn.
    assert not await claim(paused, taker.worker, before.sequence + 3)
    owned = await taker.load_ownership()
    assert owned.shards[0].position == Position(0, 1000 + before.sequence + 1, 0)
    await taker.flush(flush(owned.sequence + 1, owned.number))
    paused.drop()
    taker.drop()
    await assert_verified(ledger)
