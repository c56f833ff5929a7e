"""What a flush locks and writes: stripes that nobody shares, a fence that leaves nothing behind."""

import asyncpg

from tests.desks import A, B, account, batch, desk, transfer
from tests.verifying import assert_verified

SIZE = 900


async def test_second_stripe_first_run_no_conflict(postgres_dsn: str, redis_url: str) -> None:
    """Two workers write one account for the first time: each its own stripe, none in the way."""
    other = account(1, 1)
    async with desk(postgres_dsn, redis_url, other, shard_count=2) as at:
        workers = at.ledger.worker([0]), at.ledger.worker([1])
        async with at.ledger.working(*workers):
            for _ in range(3):
                await at.send([transfer(A, B) for _ in range(SIZE)], shard=0)
                await at.send([transfer(other, B) for _ in range(SIZE)], shard=1)
            await at.answers(6)
        assert [worker.statistics.conflicts for worker in workers] == [0, 0]
        rows = await at.ledger.sql("SELECT credits_posted FROM ledger.balances")
        assert max(row["credits_posted"] for row in rows) == 6 * SIZE
        await assert_verified(at.ledger)


async def test_long_snapshot_open_flush_cost_flat(postgres_dsn: str, redis_url: str) -> None:
    """While somebody's snapshot is open no version of a row can go: a flush leaves none to go."""
    async with desk(postgres_dsn, redis_url) as at:
        old = await asyncpg.connect(at.ledger.dsn)

        async def pages() -> list[int]:
            rows = await at.ledger.sql(
                "SELECT pg_relation_size(oid) AS bytes FROM pg_class WHERE oid = ANY"
                " ('{ledger.workers,ledger.owners,ledger.accounts}'::regclass[]) ORDER BY oid"
            )
            return [row["bytes"] // 8192 for row in rows]

        async with at.ledger.working(), old.transaction(isolation="repeatable_read"):
            await old.fetch("SELECT count(*) FROM ledger.flushes")
            before = await pages()
            for count in range(1, 201):
                await at.send(batch(1))
                await at.answers(count)
            assert await pages() == before
        await old.close()
