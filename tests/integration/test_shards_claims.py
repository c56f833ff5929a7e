"""Claims against claims, heartbeats and frozen workers."""

import asyncio
import json
import os
import signal
import sys
import uuid
from collections.abc import Coroutine
from typing import Any

import asyncpg
import pytest

from engine.errors import LostOwnershipError
from engine.store.owning import NOBODY
from tests.desks import A, B, batch
from tests.ledgers import Ledger, clock, make_ledger, until
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
    await slow.owning.beat(60)
    assert await let_go(held) == [{}]
    assert list((await slow.load_ownership()).shards) == [0]
    slow.drop()
    taker.drop()
    await assert_verified(ledger)


async def test_a_claim_inserts_the_number_that_it_expects(
    postgres_dsn: str, redis_url: str
) -> None:
    """Whoever does not know that its own chain went on takes nothing."""
    ledger = await make_ledger(postgres_dsn, redis_url, shard_count=2)
    one, other = await opened(ledger, 0), await opened(ledger)
    assert await claim(one, NOBODY)
    assert await claim(other, one.worker)
    with pytest.raises(LostOwnershipError):
        await one.owning.claim(NOBODY, [1], sequence=2, time=clock())
    one.drop()
    other.drop()
    await assert_verified(ledger)


async def test_sigstop_mid_copy_is_taken_over(postgres_dsn: str, redis_url: str) -> None:
    """The frozen worker's backend keeps its locks until whoever waits for them ends it."""
    ledger = await make_ledger(postgres_dsn, redis_url, shard_count=4)
    await ledger.sql(
        f"INSERT INTO ledger.accounts (id, ledger, code) VALUES ('{A}', 1, 1), ('{B}', 1, 1)"
    )
    addresses = {"ENGINE_POSTGRES_DSN": ledger.dsn, "ENGINE_REDIS_URL": ledger.redis_url}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "engine.commands.main", "worker", "--json"),
        *("--log-level", "error"),
        env={**os.environ, **addresses, "ENGINE_PREFIX": ledger.prefix},
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    ready = json.loads(await asyncio.wait_for(process.stdout.readline(), 30))
    frozen = uuid.UUID(ready["workers"][0]["worker"])
    stream = f"{ledger.prefix}:transfers:{{0000}}"
    batches = [batch(2000) for _ in range(3)]

    # Somebody has spent one of the ids and not committed yet: the COPY waits for that.
    blocker = await asyncpg.connect(ledger.dsn)
    blocked = blocker.transaction()
    await blocked.start()
    await blocker.execute(
        "INSERT INTO ledger.spent (id, number, flags, shard, outcome) VALUES ($1, 0, 0, 0, 0)",
        uuid.UUID(min(transfer["id"] for sent in batches for transfer in sent)),
    )
    async with ledger.redis() as redis:
        for sent in batches:
            await redis.xadd(stream, {"json": json.dumps(sent)})

    async def copying(state: str) -> bool:
        rows = await ledger.sql(
            "SELECT count(*) AS n FROM pg_stat_activity WHERE application_name = $1"
            " AND query LIKE 'COPY%' AND wait_event_type = $2",
            f"engine {frozen}",
            state,
        )
        return bool(rows[0]["n"])

    try:
        await until(lambda: copying("Lock"), "the COPY to wait")
        process.send_signal(signal.SIGSTOP)
        await blocked.rollback()
        await blocker.close()
        await until(lambda: copying("Client"), "the backend to wait for its frozen client")
        async with ledger.working(ledger.worker()) as [taker]:
            assert taker.owned == {0, 1, 2, 3}
            process.send_signal(signal.SIGCONT)

            async def drained() -> bool:
                async with ledger.redis() as redis:
                    return await redis.xlen(stream) == 0

            await until(drained, "all to be decided")
            process.send_signal(signal.SIGTERM)
            assert await asyncio.wait_for(process.wait(), 20) == 0
    finally:
        if process.returncode is None:
            process.kill()
    rows = await ledger.sql(
        "SELECT count(*) AS n, count(*) FILTER (WHERE f.worker = $1 AND f.number >"
        "  (SELECT min(flush) FROM ledger.ownership WHERE former = $1)) AS late"
        " FROM ledger.transfers t JOIN ledger.flushes f ON f.number = t.number >> 20",
        frozen,
    )
    assert tuple(rows[0]) == (6000, 0)
    await assert_verified(ledger)
