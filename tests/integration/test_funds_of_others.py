"""Money that other workers bring: nothing is declined for want of it once it is there."""

import asyncio
from typing import Any

import pytest

from engine.store.rows import Flush
from engine.worker.worker import Worker
from tests.desks import transfer
from tests.integration.test_time import kept, push
from tests.ledgers import Ledger, make_ledger, until
from tests.verifying import assert_verified

E0, L0, L1 = (f"{n:08x}-0000-0000-0000-0000000000{n:02x}" for n in (0x10, 0x20, 0x11))
LIMITED = "{debits_must_not_exceed_credits}"


async def make_three(dsn: str, url: str) -> Ledger:
    """An unlimited account and a limited one of shard 0, and a limited one of shard 1."""
    ledger = await make_ledger(dsn, url)
    await ledger.sql(
        "INSERT INTO ledger.accounts (id, ledger, code, flags) VALUES"
        f" ('{E0}', 1, 1, '{{}}'), ('{L0}', 1, 1, '{LIMITED}'), ('{L1}', 1, 1, '{LIMITED}')"
    )
    return ledger


def together(*workers: Worker) -> None:
    """The first flush of each of these goes only once all have one to send."""
    barrier = asyncio.Barrier(len(workers))

    def gate(worker: Worker) -> None:
        original = worker.store.flush
        waited = False

        async def flush(what: Flush) -> int:
            nonlocal waited
            if any(len(one.outcomes) for one in what.decided) and not waited:
                waited = True
                await barrier.wait()
            return await original(what)

        worker.store.flush = flush  # type: ignore[method-assign]

    for worker in workers:
        gate(worker)


async def outcomes(ledger: Ledger) -> dict[str, str]:
    rows = await ledger.sql(
        "SELECT id::text, 'created' AS outcome FROM ledger.transfers"
        " UNION ALL SELECT id::text, outcome FROM ledger.declined"
    )
    return {row["id"]: row["outcome"] for row in rows}


async def decided(ledger: Ledger, count: int) -> dict[str, str]:
    async def enough() -> Any:
        found = await outcomes(ledger)
        return found if len(found) >= count else None

    found: dict[str, str] = await until(enough, f"{count} outcomes")
    return found


@pytest.mark.parametrize("round_", range(3))
async def test_two_workers_decline_for_want_of_each_others_credit(
    round_: int, postgres_dsn: str, redis_url: str
) -> None:
    """Each brings the other's account funds in the very flush in which it declines."""
    ledger = await make_three(postgres_dsn, redis_url)
    zero, one = ledger.worker([0]), ledger.worker([1])
    together(zero, one)
    async with ledger.working(zero, one), ledger.redis() as redis:
        spend0, spend1 = transfer(L0, E0, 5 + round_), transfer(L1, E0, 5)
        other = f"{0x21:08x}-0000-0000-0000-000000000021"
        await ledger.sql(f"INSERT INTO ledger.accounts (id, ledger, code) VALUES ('{other}', 1, 1)")
        await push(redis, ledger, 0, transfer(E0, L1, 10), spend0)
        await push(redis, ledger, 1, transfer(other, L0, 10), spend1)
        found = await decided(ledger, 4)
        assert "created" in {found[spend0["id"]], found[spend1["id"]]}
    await assert_verified(ledger)


async def test_a_decline_for_more_than_arrived_stands(postgres_dsn: str, redis_url: str) -> None:
    """Funds that would not have been enough are no reason to decide again."""
    ledger = await make_three(postgres_dsn, redis_url)
    zero, one = ledger.worker([0]), ledger.worker([1])
    original = one.store.flush

    async def late(what: Flush) -> int:
        if what.has_assumptions:
            await kept(ledger, 1)
        return await original(what)

    one.store.flush = late  # type: ignore[method-assign]
    async with ledger.working(zero, one), ledger.redis() as redis:
        spend = transfer(L1, E0, 1000)
        await push(redis, ledger, 1, spend)
        await push(redis, ledger, 0, transfer(E0, L1, 10))
        found = await decided(ledger, 2)
        assert found[spend["id"]] == "exceeds_credits"
        assert one.statistics.conflicts == 0
    await assert_verified(ledger)


async def test_declining_ends_though_funds_keep_arriving(postgres_dsn: str, redis_url: str) -> None:
    """After two flushes that came too late the worker locks the others out."""
    ledger = await make_three(postgres_dsn, redis_url)
    zero, one = ledger.worker([0]), ledger.worker([1])
    original = one.store.flush

    async def late(what: Flush) -> int:
        if what.has_assumptions:
            before = len(await outcomes(ledger))
            async with ledger.redis() as redis:
                await push(redis, ledger, 0, transfer(E0, L1, 1))
            await kept(ledger, before + 1)
        return await original(what)

    one.store.flush = late  # type: ignore[method-assign]
    async with ledger.working(zero, one), ledger.redis() as redis:
        spends = [transfer(L1, E0, 1) for _ in range(30)]
        await push(redis, ledger, 1, *spends)

        async def all_decided() -> bool:
            return len((await outcomes(ledger)).keys() & {s["id"] for s in spends}) == len(spends)

        await until(all_decided, "all spends decided")
        assert one.statistics.locked >= 1
    await assert_verified(ledger)
