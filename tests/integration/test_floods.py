"""Floods of one stream, which take their part of each flush: others are answered meanwhile."""

import asyncio
import json
import os
import uuid
from collections.abc import Awaitable, Callable

import numpy as np

from engine.ledger.nouns import BATCH_TRANSFERS_MAX, TransferFlags
from engine.wire.layout import TRANSFER
from engine.worker.bounds import EXPIRIES_MAX
from tests.desks import A, B, Desk, account, desk, transfer
from tests.verifying import assert_verified

FLOOD = 100_000
HOLDS = 540_000
TIMEOUT_SECONDS = 5
HONEST = account(1, 1), account(1, 2)
FLOODED_SECONDS_MAX = 600.0


class Honest:
    """A producer on another shard, who sends again as soon as it is answered."""

    def __init__(self, at: Desk) -> None:
        self._at = at
        self.reply = f"{at.ledger.prefix}:answers:honest"
        self.seconds: list[float] = []

    async def ask(self) -> None:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        last = await self._at.redis.xrevrange(self.reply, count=1)
        fields = {"json": json.dumps([transfer(*HONEST)]), "reply": self.reply}
        await self._at.redis.xadd(self._at.stream(1), fields)
        after = last[0][0] if last else "0"
        found = await self._at.redis.xread({self.reply: after}, block=60_000)
        assert json.loads(found[0][1][0][1][b"outcomes"]) == ["created"]
        self.seconds.append(loop.time() - begun)

    async def ask_until(self, over: Callable[[], Awaitable[bool]]) -> None:
        """Ask on until the flood is over."""
        deadline = asyncio.get_running_loop().time() + FLOODED_SECONDS_MAX
        while not await over():
            assert asyncio.get_running_loop().time() < deadline, "the flood does not end"
            await self.ask()
        middle = sorted(self.seconds)[len(self.seconds) // 2]
        print(f"{len(self.seconds)} answers, median {middle:.3f} s, worst {max(self.seconds):.3f}")


async def test_flood_of_unreadable_entries(postgres_dsn: str, redis_url: str) -> None:
    """What is no transfer is buried some at a time, and another shard is answered meanwhile."""
    async with desk(postgres_dsn, redis_url, *HONEST, shard_count=2) as at:
        worker = at.ledger.worker()
        async with at.ledger.working(worker):
            honest = Honest(at)
            await honest.ask()
            pipeline = at.redis.pipeline(transaction=False)
            for _ in range(FLOOD):
                pipeline.execute_command("XADD", at.stream(0), "*", "x", "y")
            await pipeline.execute()

            async def over() -> bool:
                return await at.redis.xlen(at.stream(0)) == 0

            await honest.ask_until(over)
        assert len(honest.seconds) > 10
        rows = await at.ledger.sql(
            "SELECT count(*) AS letters FROM ledger.dead_letters WHERE shard = 0"
        )
        assert rows[0]["letters"] == FLOOD
        assert worker.statistics.sessions == 1
        await assert_verified(at.ledger)


async def test_half_a_million_holds_expire_together(postgres_dsn: str, redis_url: str) -> None:
    """One honest producer's: they expire some at a time, and another shard is answered."""
    async with desk(postgres_dsn, redis_url, *HONEST, shard_count=2) as at:
        worker = at.ledger.worker()
        expiries: list[int] = []
        worker.subscribe(lambda report: expiries.append(report.expiries))
        async with at.ledger.working(worker):
            honest = Honest(at)
            await honest.ask()
            for _ in range(HOLDS // BATCH_TRANSFERS_MAX + 1):
                await at.redis.xadd(at.stream(0), {"bin": holds(BATCH_TRANSFERS_MAX)})
            await at.drained()

            async def over() -> bool:
                return sum(expiries) > HOLDS

            await honest.ask_until(over)
        assert len(honest.seconds) > 30
        assert max(expiries) <= EXPIRIES_MAX
        assert sum(count > 0 for count in expiries) >= HOLDS / EXPIRIES_MAX
        assert worker.statistics.sessions == 1
        rows = await at.ledger.sql(
            "SELECT count(*) AS n, count(*) FILTER (WHERE status = 'expired') AS expired"
            " FROM ledger.holds"
        )
        assert rows[0]["n"] == rows[0]["expired"] == sum(expiries)
        await assert_verified(at.ledger)


def holds(count: int) -> bytes:
    rows = np.zeros(count, TRANSFER)
    rows["id"] = np.frombuffer(os.urandom(16 * count), "V16")
    rows["debit_account_id"] = np.void(uuid.UUID(A).bytes)
    rows["credit_account_id"] = np.void(uuid.UUID(B).bytes)
    rows["amount_low"] = rows["ledger"] = rows["code"] = 1
    rows["flags"] = int(TransferFlags.pending)
    rows["timeout"] = TIMEOUT_SECONDS
    return rows.tobytes()
