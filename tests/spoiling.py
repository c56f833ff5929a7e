"""A stream that is spoiled, while somebody honest sends to another shard of the same worker."""

import asyncio
import contextlib
import json
import statistics
import time
from collections.abc import AsyncIterator
from typing import Any

from engine.worker.worker import Worker
from tests.desks import Desk, account, transfer
from tests.ledgers import until
from tests.verifying import assert_verified

C, D = account(1, 1), account(1, 2)
"""At home in shard 1, which is never the spoiled one."""


class Honest:
    """Somebody who sends to shard 1 all the time."""

    def __init__(self, producer: Desk) -> None:
        self._producer = producer
        self.sent = 0
        self.seconds: list[float] = []

    async def ask(self) -> None:
        """Send one transfer and wait for its answer."""
        reply = f"{self._producer.ledger.prefix}:answers:honest{self.sent}"
        fields = {"json": json.dumps(transfer(C, D)), "reply": reply}
        began = time.monotonic()
        await self._producer.redis.xadd(self._producer.stream(1), fields)
        self.sent += 1
        [[_, [[_, answer]]]] = await until(
            lambda: self._producer.redis.xread({reply: "0-0"}, block=1000), "an answer"
        )
        assert json.loads(answer[b"outcomes"]) == ["created"]
        self.seconds.append(time.monotonic() - began)

    async def go_on(self) -> None:
        while True:
            await self.ask()
            await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def honest_beside(producer: Desk, turns: int = 20) -> AsyncIterator[Honest]:
    """Another shard is decided all the while, and for some turns after the block."""
    honest = Honest(producer)
    going = asyncio.create_task(honest.go_on())
    try:
        yield honest
        asked = len(honest.seconds)
        await until(lambda: going.done() or len(honest.seconds) >= asked + turns, "others' answers")
    finally:
        if not going.done():
            going.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await going
    median, most = statistics.median(honest.seconds), max(honest.seconds)
    print(f"others' answers: {len(honest.seconds)}, median {median:.3f} s, at most {most:.3f} s")


async def created(producer: Desk, *transfers: dict[str, Any]) -> None:
    wanted = {one["id"] for one in transfers}

    async def all_here() -> bool:
        rows = await producer.ledger.sql("SELECT id::text FROM ledger.transfers")
        return wanted <= {row["id"] for row in rows}

    await until(all_here, f"{len(wanted)} transfers to be created")


async def add(producer: Desk, entry_id: str = "*") -> dict[str, Any]:
    """A transfer in the spoiled stream."""
    made = transfer()
    await producer.redis.xadd(producer.stream(), {"json": json.dumps(made)}, id=entry_id)
    return made


async def buried(producer: Desk, count: int) -> list[Any]:
    async def there() -> Any:
        rows = await producer.ledger.sql("SELECT * FROM ledger.dead_letters ORDER BY ms, seq")
        return rows if len(rows) >= count else None

    rows: list[Any] = await until(there, f"{count} dead letters")
    return rows


async def all_well(producer: Desk, worker: Worker) -> None:
    """The session went on, all shards are read, and what was sent is decided."""
    await until(lambda: not worker.statistics.unread, "all shards to be read")
    made = await add(producer)
    await created(producer, made)
    await producer.drained()
    assert worker.statistics.sessions == 1


@contextlib.asynccontextmanager
async def spoiling(producer: Desk) -> AsyncIterator[Worker]:
    """A worker that works while a block spoils the stream of shard 0, and all is well after it."""
    worker = producer.ledger.worker()
    async with producer.ledger.working(worker):
        async with honest_beside(producer):
            yield worker
        await all_well(producer, worker)
    await assert_verified(producer.ledger)
