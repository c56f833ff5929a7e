"""Streams that a stranger spoiled: poisoned by a maximal id, trimmed, moved."""

import json
import uuid
from typing import Any

import pytest

from tests.ledgers import Ledger, make_ledger, until
from tests.verifying import assert_verified

A, B = str(uuid.UUID(int=1 << 80)), str(uuid.UUID(int=2 << 80))
TOP = 2**64 - 1


@pytest.fixture
async def ledger(postgres_dsn: str, redis_url: str) -> Ledger:
    made = await make_ledger(postgres_dsn, redis_url, shard_count=1)
    await made.sql(
        f"INSERT INTO ledger.accounts (id, ledger, code) VALUES ('{A}', 1, 1), ('{B}', 1, 1)"
    )
    return made


def entry() -> tuple[str, dict[str, Any]]:
    transfer = {
        "id": str(uuid.uuid4()),
        "debit_account_id": A,
        "credit_account_id": B,
        "amount": 1,
        "ledger": 1,
        "code": 1,
    }
    return transfer["id"], {"json": json.dumps(transfer)}  # type: ignore[return-value]


async def decided(ledger: Ledger, ids: list[str]) -> None:
    async def all_here() -> bool:
        rows = await ledger.sql("SELECT id::text FROM ledger.transfers")
        return {row["id"] for row in rows} == set(ids)

    await until(all_here, f"{len(ids)} transfers")


@pytest.mark.parametrize("top", [f"{TOP}-{TOP}", f"{2**63}-0", f"5000000000000-{2**63}"])
async def test_maximal_id_poison(ledger: Ledger, top: str) -> None:
    """What was added before and with that id is decided, and the stream takes entries again."""
    stream = f"{ledger.prefix}:transfers:{{0000}}"
    ids = []
    async with ledger.redis() as redis:
        for entry_id in ("*", "*", top):
            transfer_id, fields = entry()
            ids.append(transfer_id)
            await redis.xadd(stream, fields, id=entry_id)
        async with ledger.working():
            await decided(ledger, ids)
            for _ in range(3):
                transfer_id, fields = entry()
                ids.append(transfer_id)
                await redis.xadd(stream, fields)
            await decided(ledger, ids)
            transfer_id, fields = entry()
            ids.append(transfer_id)
            await redis.xadd(stream, fields, id=f"{TOP}-{TOP}")  # while it is being read
            await decided(ledger, ids)
        assert not await redis.exists(f"{stream}:poisoned")
    await assert_verified(ledger)


async def test_stranger_trims_the_stream(ledger: Ledger) -> None:
    """What is gone cannot be decided; everything else is, and the shard goes on."""
    stream = f"{ledger.prefix}:transfers:{{0000}}"
    kept = []
    async with ledger.working(), ledger.redis() as redis:
        for turn in range(30):
            transfer_id, fields = entry()
            await redis.xadd(stream, fields)
            if turn % 10 == 9:
                await redis.xtrim(stream, maxlen=0)
        for _ in range(5):
            transfer_id, fields = entry()
            kept.append(transfer_id)
            await redis.xadd(stream, fields)

        async def here() -> bool:
            rows = await ledger.sql("SELECT id::text FROM ledger.transfers")
            return {row["id"] for row in rows} >= set(kept)

        await until(here, "what was added after the trim")
    await assert_verified(ledger)


async def test_entries_below_the_position_are_decided_and_the_stream_moved_forward(
    ledger: Ledger,
) -> None:
    """`redis_back_with_unread_entries_below_position`: a Redis that came back older."""
    stream = f"{ledger.prefix}:transfers:{{0000}}"
    ids = []
    async with ledger.redis() as redis:
        async with ledger.working():
            transfer_id, fields = entry()
            ids.append(transfer_id)
            await redis.xadd(stream, fields)
            await decided(ledger, ids)
        await redis.delete(stream)
        for number in (1, 2):  # far below the position, which is of this century
            transfer_id, fields = entry()
            ids.append(transfer_id)
            await redis.xadd(stream, fields, id=f"1000-{number}")
        async with ledger.working():
            await decided(ledger, ids)
            transfer_id, fields = entry()
            ids.append(transfer_id)
            await redis.xadd(stream, fields)
            await decided(ledger, ids)
            assert await redis.xlen(stream) == 0
    await assert_verified(ledger)


async def test_crash_between_commit_and_trim_answers_nothing_twice(ledger: Ledger) -> None:
    stream, reply = f"{ledger.prefix}:transfers:{{0000}}", f"{ledger.prefix}:answers:a"
    async with ledger.redis() as redis:
        transfer_id, fields = entry()
        async with ledger.working():
            entry_id = await redis.xadd(stream, {**fields, "reply": reply})
            await decided(ledger, [transfer_id])
        await redis.delete(reply)
        # As if the worker had died before it deleted what it had committed.
        await redis.delete(stream)
        await redis.xadd(stream, {**fields, "reply": reply}, id=entry_id)
        async with ledger.working():

            async def trimmed() -> bool:
                return await redis.xlen(stream) == 0

            await until(trimmed, "the entry to be deleted")
        assert not await redis.exists(reply)
    await assert_verified(ledger)
