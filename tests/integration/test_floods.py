"""Floods of one stream, which take their part of each flush: others are answered meanwhile."""

import asyncio
import json
from collections.abc import Awaitable, Callable

from tests.desks import Desk, account, desk, transfer
from tests.verifying import assert_verified

FLOOD = 100_000
HONEST = account(1, 1), account(1, 2)
FLOODED_SECONDS_MAX = 300.0


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
