"""A worker whose shard was taken commits nothing more, by either way of flushing."""

import pytest

from engine.errors import ChainMovedError
from engine.ledger.nouns import Position
from engine.store.ownership import NOBODY
from engine.store.rows import DeadLetter, Flush
from tests.ledgers import make_ledger
from tests.stores import claim, flush_to, opened
from tests.verifying import assert_verified


@pytest.mark.parametrize("by_copy", [False, True], ids=["one statement", "by COPY"])
async def test_who_was_taken_over_commits_nothing(
    by_copy: bool, postgres_dsn: str, redis_url: str
) -> None:
    ledger = await make_ledger(postgres_dsn, redis_url, shard_count=1)
    paused, taker = await opened(ledger, 0), await opened(ledger, 60)
    assert await claim(paused, NOBODY)
    before = await paused.load_ownership()

    def flush(sequence: int, number: int) -> Flush:
        position = Position(0, 1000 + sequence, 0)
        letters = [DeadLetter(0, position, "for the test", [b"a", b"b"])] if by_copy else []
        return flush_to(position, *letters, sequence=sequence, number=number)

    number = await paused.flush(flush(before.sequence + 1, before.number))
    assert await claim(taker, paused.worker)
    with pytest.raises(ChainMovedError):
        await paused.flush(flush(before.sequence + 2, number))
    # The living one is not to be robbed in turn.
    assert not await claim(paused, taker.worker)
    owned = await taker.load_ownership()
    assert owned.shards[0].position == Position(0, 1000 + before.sequence + 1, 0)
    await taker.flush(flush(owned.sequence + 1, owned.number))
    paused.drop()
    taker.drop()
    await assert_verified(ledger)
