"""Commits whose answer is lost: what was committed is answered `created`, once, and once only.

The worker talks to Postgres through a proxy that loses the COMMIT itself, or its answer.
"""

import asyncio
import json
import uuid
from typing import Any

import pytest

from engine.store.postgres import PostgresStore
from engine.streams import Streams
from engine.worker import Worker
from tests.ledgers import Ledger, clock, make_ledger, until
from tests.proxies import Loss, proxied
from tests.verifying import assert_verified

A, B = str(uuid.UUID(int=1 << 80)), str(uuid.UUID(int=2 << 80))


async def answers(ledger: Ledger, reply: str, count: int) -> list[list[str]]:
    """The outcomes of the first `count` entries answered, and of any that follow at once."""
    found: list[Any] = []
    async with ledger.redis() as redis:

        async def enough() -> bool:
            nonlocal found
            found = await redis.xrange(reply)
            return len(found) >= count

        await until(enough, f"{count} answers")
    return [json.loads(fields[b"outcomes"]) for _, fields in found]


def batch(size: int) -> list[dict[str, Any]]:
    return [
        {
            "id": str(uuid.uuid4()),
            "debit_account_id": A,
            "credit_account_id": B,
            "amount": 1,
            "ledger": 1,
            "code": 1,
        }
        for _ in range(size)
    ]


@pytest.mark.parametrize("loss", ["request", "answer"])
@pytest.mark.parametrize("size", [1, 900], ids=["one statement", "by COPY"])
async def test_commit_ack_lost(loss: Loss, size: int, postgres_dsn: str, redis_url: str) -> None:
    """`commit_ack_lost_applied` and `commit_ack_lost_aborted`."""
    ledger = await make_ledger(postgres_dsn, redis_url, shard_count=1)
    await ledger.sql(
        f"INSERT INTO ledger.accounts (id, ledger, code) VALUES ('{A}', 1, 1), ('{B}', 1, 1)"
    )
    stream, reply = f"{ledger.prefix}:transfers:{{0000}}", f"{ledger.prefix}:answers:a"
    async with proxied(ledger.dsn) as (proxy, through):
        store = PostgresStore(through, uuid.uuid4().bytes)
        worker = Worker(store, Streams(redis_url, ledger.prefix), None, clock)
        async with ledger.working(worker), ledger.redis() as redis:
            first, second = batch(size), batch(size)
            await redis.xadd(stream, {"json": json.dumps(first), "reply": reply})
            await answers(ledger, reply, 1)
            by_statement = uuid.UUID(second[0]["id"]).bytes
            proxy.lose(loss, by_statement if size == 1 else b"COMMIT\0")
            await redis.xadd(stream, {"json": json.dumps(second), "reply": reply})
            await asyncio.wait_for(proxy.lost.wait(), 20)
            outcomes = await answers(ledger, reply, 2)
            third = batch(1)
            await redis.xadd(stream, {"json": json.dumps(third), "reply": reply})
            outcomes = await answers(ledger, reply, 3)
    assert outcomes == [["created"] * size, ["created"] * size, ["created"]]
    kept = await ledger.sql("SELECT count(*) AS n, count(DISTINCT id) AS ids FROM ledger.transfers")
    assert tuple(kept[0]) == (2 * size + 1, 2 * size + 1)
    await assert_verified(ledger)


async def test_terminated_backends_lose_nothing(postgres_dsn: str, redis_url: str) -> None:
    ledger = await make_ledger(postgres_dsn, redis_url, shard_count=1)
    await ledger.sql(
        f"INSERT INTO ledger.accounts (id, ledger, code) VALUES ('{A}', 1, 1), ('{B}', 1, 1)"
    )
    stream, reply = f"{ledger.prefix}:transfers:{{0000}}", f"{ledger.prefix}:answers:a"
    sent = []
    async with ledger.working(), ledger.redis() as redis:
        for size in (1, 900, 1, 900, 40):
            sent += batch(size)
            await redis.xadd(stream, {"json": json.dumps(sent[-size:]), "reply": reply})
            await ledger.sql(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )

        async def drained() -> bool:
            return await redis.xlen(stream) == 0

        await until(drained, "all entries to be decided")
    rows = await ledger.sql("SELECT id::text FROM ledger.transfers")
    assert {row["id"] for row in rows} == {transfer["id"] for transfer in sent}
    await assert_verified(ledger)
