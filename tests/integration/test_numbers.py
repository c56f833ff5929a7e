"""At the edges of numbers, by several workers on real servers."""

from typing import Any

from tests.desks import Desk, account, desk, transfer
from tests.verifying import assert_verified

TOP = 2**63 - 1
FAR, HOME, FULL = account(0, 7), account(1, 7), account(1, 8)


async def ask(at: Desk, shard: int, count: int, *transfers: dict[str, Any]) -> list[str]:
    """Send an entry, and wait until `count` are answered; what the last one is told."""
    await at.send(list(transfers), shard=shard)
    return (await at.answers(count))[-1]


async def test_overflow_over_a_stale_stripe(postgres_dsn: str, redis_url: str) -> None:
    async with desk(postgres_dsn, redis_url, FAR, HOME, FULL, shard_count=2) as at:
        async with at.ledger.working(at.ledger.worker([0]), at.ledger.worker([1])):
            assert await ask(at, 0, 1, transfer(FAR, FULL, 1)) == ["created"]
            assert await ask(at, 1, 2, transfer(HOME, FULL, TOP - 1)) == ["created"]
            assert await ask(at, 0, 3, transfer(FAR, FULL, 1)) == ["overflows_credits_posted"]
        rows = await at.ledger.sql("SELECT credits_posted FROM ledger.balances")
        assert max(row["credits_posted"] for row in rows) == TOP
        await assert_verified(at.ledger)


async def test_hold_ended_through_another_stripe_again_and_again(
    postgres_dsn: str, redis_url: str
) -> None:
    """No stripe of it ever falls below zero, or passes what one may hold."""
    async with desk(postgres_dsn, redis_url, FAR, HOME, FULL, shard_count=2) as at:
        async with at.ledger.working(at.ledger.worker([0]), at.ledger.worker([1])):
            for count in range(0, 8, 2):
                hold = transfer(FAR, FULL, 2**62, flags=["pending"])
                void = {
                    "id": transfer()["id"],
                    "pending_id": hold["id"],
                    "flags": ["void_pending_transfer"],
                }
                assert await ask(at, 0, count + 1, hold) == ["created"]
                assert await ask(at, 0, count + 2, void) == ["created"]
        rows = await at.ledger.sql("SELECT min(credits_pending) AS least FROM ledger.posted")
        assert rows[0]["least"] == 0
        await assert_verified(at.ledger)
