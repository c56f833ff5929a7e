"""Claims against claims, heartbeats and frozen workers."""

import asyncio
import uuid
from collections.abc import Coroutine
from typing import Any

import asyncpg
import pytest

from engine.errors import ChainMovedError
from engine.store.ownership import NOBODY
from tests.ledgers import Ledger, make_ledger, until
from tests.stores import claim, opened
from tests.verifying import assert_verified


async def behind_a_lock(
    ledger: Ledger, worker: bytes, *waiting: Coroutine[Any, Any, Any]
) -> list[Any]:
    """Begin these and see them wait for a worker's row, all at the same time."""
    holder = await asyncpg.connect(ledger.dsn)
    transaction = holder.transaction()
    await transaction.start()
    await holder.execute(
        "SELECT FROM ledger.workers WHERE worker = $1 FOR UPDATE", uuid.UUID(bytes=worker)
    )
    tasks = [asyncio.create_task(one) for one in waiting]

    async def all_wait() -> bool:
        rows = await ledger.sql(
            "SELECT count(*) AS n FROM pg_stat_activity"
            " WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        return bool(rows[0]["n"] == len(tasks))

    await until(all_wait, "claims to wait")
    return [holder, transaction, tasks]


async def let_go(held: list[Any]) -> list[Any]:
    holder, transaction, tasks = held
    await transaction.rollback()
    await holder.close()
    return list(await asyncio.gather(*tasks, return_exceptions=True))


@pytest.mark.parametrize("free", [True, False])
async def test_two_claim_one_shard(free: bool, postgres_dsn: str, redis_url: str) -> None:
    """`two_claim_one_expired_worker` and `two_claim_one_free_shard`."""
    ledger = await make_ledger(postgres_dsn, redis_url, shard_count=1)
    dead, one, other = await opened(ledger, 0), await opened(ledger), await opened(ledger)
    owner = NOBODY if free else dead.worker
    if not free:
        assert await claim(dead, NOBODY)
    held = await behind_a_lock(ledger, owner, claim(one, owner), claim(other, owner))
    taken = await let_go(held)
    assert sorted(list(shards) for shards in taken) == [[], [0]]
    rows = await ledger.sql("SELECT worker FROM ledger.ownership ORDER BY flush DESC LIMIT 1")
    winner = one if taken[0] else other
    assert rows[0]["worker"].bytes == winner.worker
    for store in (dead, one, other):
        store.drop()
    await assert_verified(ledger)


async def test_heartbeat_renewed_while_claim_waits(postgres_dsn: str, redis_url: str) -> None:
    ledger = await make_ledger(postgres_dsn, redis_url, shard_count=1)
    slow, taker = await opened(ledger, 0), await opened(ledger)
    assert await claim(slow, NOBODY)
    held = await behind_a_lock(ledger, slow.worker, claim(taker, slow.worker))
    await slow.ownership.heartbeat(60)
    assert await let_go(held) == [{}]
    assert list((await slow.load_ownership()).shards) == [0]
    slow.drop()
    taker.drop()
    await assert_verified(ledger)


async def test_whoever_was_robbed_claims_nothing_before_it_knows(
    postgres_dsn: str, redis_url: str
) -> None:
    ledger = await make_ledger(postgres_dsn, redis_url, shard_count=2)
    one, other = await opened(ledger, 0), await opened(ledger)
    owned = await claim(one, NOBODY)
    assert await claim(other, one.worker)
    with pytest.raises(ChainMovedError):
        await claim(one, NOBODY, [1], owned)
    assert await claim(one, NOBODY, [1])
    one.drop()
    other.drop()
    await assert_verified(ledger)
