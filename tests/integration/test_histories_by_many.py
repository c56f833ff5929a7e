"""Who owns what never changes an outcome: recorded histories while shards go from worker to worker.

Most entries concern accounts of several workers. Where holds lapse within two seconds a replay
must keep to the clock; those histories are not among these.
"""

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator
from typing import Any

from tests.histories import load_histories
from tests.ledgers import Ledger, make_ledger
from tests.moving import moving
from tests.replaying import (
    assert_as_answered,
    assert_as_recorded,
    balances_of,
    create_accounts,
    declined_in,
    replay,
    replay_at_once,
)
from tests.verifying import assert_verified

SEED = int(os.environ.get("SEED", time.time_ns() % 100_000))
HISTORIES = [history for history in load_histories() if history.profile != "expiry"]
BY_CHAIN = HISTORIES if "EVERY_CHAIN" in os.environ else HISTORIES[SEED % 8 :: 8]
"""Those that are sent one chain at a time; with EVERY_CHAIN=1 all, which takes minutes."""


@contextlib.asynccontextmanager
async def four_working(ledger: Ledger, moved_min: int) -> AsyncIterator[None]:
    """Four workers; so many of the shards move among them during the block, or it fails."""
    workers = [ledger.worker() for _ in range(4)]
    async with ledger.working(*workers):
        async with moving(ledger, workers, SEED) as moved:
            yield
        locked = [one.statistics.locked for one in workers]
        print(f"{len(moved)} moves, {sum(locked)} locked flushes")
        assert len(set(moved)) >= moved_min
        assert all(locked)
        assert all(one.statistics.sessions == 1 for one in workers)


async def kept(ledger: Ledger) -> list[Any]:
    """All balances, and what was declined."""
    return [await balances_of(ledger), await declined_in(ledger)]


async def test_histories_replay_the_same_on_one_worker_and_on_four_while_shards_move(
    postgres_dsn: str, redis_url: str
) -> None:
    """One chain at a time, each after the last answer, or one batch; they share no account."""
    by_one = await make_ledger(postgres_dsn, redis_url)
    by_four = await make_ledger(postgres_dsn, redis_url)
    every_shard = by_four.shard_count
    for ledger, working in (
        (by_one, by_one.working()),
        (by_four, four_working(by_four, every_shard)),
    ):
        await create_accounts(ledger, HISTORIES)
        async with working:
            await asyncio.gather(
                *(replay(ledger, one, "bin", by_chain=one in BY_CHAIN) for one in HISTORIES)
            )
        await assert_as_recorded(ledger, HISTORIES)
        await assert_verified(ledger)
    assert await kept(by_one) == await kept(by_four)


async def test_histories_at_once_on_four_while_shards_move_keep_every_promise(
    postgres_dsn: str, redis_url: str
) -> None:
    """What is answered then depends on who is first: it is held against what is kept."""
    ledger = await make_ledger(postgres_dsn, redis_url)
    await create_accounts(ledger, HISTORIES)
    async with four_working(ledger, moved_min=3):
        told = await asyncio.gather(*(replay_at_once(ledger, history) for history in HISTORIES))
    await assert_as_answered(ledger, [one for each in told for one in each])
    await assert_verified(ledger)
