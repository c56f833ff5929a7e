"""Time: what is decided is later than what it rests on, and holds lapse when they are due."""

import asyncio
import json
import uuid
from typing import Any

from engine.settings import WorkerSettings
from tests.desks import transfer
from tests.ledgers import Ledger, clock, make_ledger, until
from tests.verifying import assert_verified

BASE = 0x11111111_2222_3333_4444_555555550000
A, B, C, D = (str(uuid.UUID(int=BASE + n)) for n in (0x00, 0x11, 0x21, 0x31))
PAIRS = 150


async def make(dsn: str, url: str) -> Ledger:
    ledger = await make_ledger(dsn, url)
    await ledger.sql(
        "INSERT INTO ledger.accounts (id, ledger, code, flags) VALUES"
        f" ('{A}', 1, 1, '{{}}'), ('{B}', 1, 1, '{{debits_must_not_exceed_credits}}'),"
        f" ('{C}', 1, 1, '{{}}'), ('{D}', 1, 1, '{{}}')"
    )
    return ledger


async def push(redis: Any, ledger: Ledger, shard: int, *transfers: dict[str, Any]) -> None:
    await redis.xadd(f"{ledger.prefix}:transfers:{{{shard:04d}}}", {"json": json.dumps(transfers)})


async def kept(ledger: Ledger, count: int) -> None:
    async def enough() -> bool:
        rows = await ledger.sql("SELECT count(*) AS n FROM ledger.transfers")
        return rows[0]["n"] >= count

    await until(enough, f"{count} transfers")


async def test_a_debit_is_later_than_the_foreign_credit_it_spends(
    postgres_dsn: str, redis_url: str
) -> None:
    """The crediting worker's clock is five seconds ahead."""
    ledger = await make(postgres_dsn, redis_url)
    ahead, behind = ledger.worker([0]), ledger.worker([1])
    ahead.clock = lambda: clock() + 5_000_000
    async with ledger.working(ahead, behind), ledger.redis() as redis:
        await push(redis, ledger, 0, transfer(A, B, 100))
        await kept(ledger, 1)
        await push(redis, ledger, 1, transfer(B, C, 60))
        await kept(ledger, 2)
    rows = await ledger.sql(
        f"SELECT amount, shard FROM ledger.postings WHERE account_id = '{B}' ORDER BY posted_at"
    )
    assert [tuple(row) for row in rows] == [(100, 0), (-60, 1)]
    await assert_verified(ledger)


async def test_limits_hold_in_the_order_of_time_while_the_spender_is_busy(
    postgres_dsn: str, redis_url: str
) -> None:
    """Credits by one worker are spent at once by another, whose flushes are always open."""
    ledger = await make(postgres_dsn, redis_url)
    stopping = asyncio.Event()
    async with (
        ledger.working(ledger.worker([0]), ledger.worker([1])),
        ledger.redis() as redis,
        ledger.redis() as busy,
    ):

        async def load() -> None:
            while not stopping.is_set():
                await push(busy, ledger, 1, *(transfer(C, D, 1) for _ in range(20)))
                await asyncio.sleep(0.002)

        loading = asyncio.create_task(load())
        for turn in range(PAIRS):
            reply = f"{ledger.prefix}:answers:{turn}"
            body = json.dumps([transfer(A, B, 10)])
            stream = f"{ledger.prefix}:transfers:{{0000}}"
            await redis.xadd(stream, {"json": body, "reply": reply})
            assert await redis.xread({reply: 0}, block=10_000)
            await push(redis, ledger, 1, transfer(B, C, 10))
        stopping.set()
        await loading

        async def spent() -> bool:
            rows = await ledger.sql(
                f"SELECT debits_posted AS n FROM ledger.balances WHERE account_id = '{B}'"
            )
            return bool(rows[0]["n"] == 10 * PAIRS)

        # Every credit was answered before its debit was sent: none may be declined.
        await until(spent, "all debits")
    await assert_verified(ledger)


async def test_every_hold_lapses_though_the_horizon_moves_while_flushes_are_in_flight(
    postgres_dsn: str, redis_url: str
) -> None:
    ledger = await make(postgres_dsn, redis_url)
    worker = ledger.worker(settings=WorkerSettings(horizon_seconds=1))
    count = 0
    async with ledger.working(worker), ledger.redis() as redis:
        for turn in range(300):
            timeouts = [1 + (turn + n) % 3 for n in range(40)]
            holds = (transfer(A, C, 1, flags=["pending"], timeout=t) for t in timeouts)
            await push(redis, ledger, 0, *holds)
            count += len(timeouts)
            await asyncio.sleep(0.005)

        async def lapsed() -> bool:
            rows = await ledger.sql("SELECT count(*) AS n FROM ledger.resolutions")
            return bool(rows[0]["n"] == count)

        await until(lapsed, "every hold to lapse")
    rows = await ledger.sql("SELECT max(resolved_at - expires_at) AS late FROM ledger.holds")
    assert rows[0]["late"].total_seconds() < 5  # within a second on a machine that is not busy
    await assert_verified(ledger)
