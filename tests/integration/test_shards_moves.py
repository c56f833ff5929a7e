"""Shards go from worker to worker while traffic flows: nothing is lost, doubled or misjudged."""

import json
import os
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.servers import Servers
from engine.settings import WorkerSettings
from tests.desks import account, transfer
from tests.integration.test_kills import WorkerProcess, drained, more_answers, producing
from tests.ledgers import Ledger, make_ledger, until
from tests.moving import id_of, move, moving
from tests.verifying import assert_verified

SEED = int(os.environ.get("SEED", time.time_ns() % 100_000))


@pytest.fixture
def own_servers(tmp_path: Path) -> Iterator[Servers]:
    """Servers that are this test's alone, since it loads them."""
    with Servers(tmp_path, postgres_settings={"shared_buffers": "128MB"}) as servers:
        yield servers


async def accounts(ledger: Ledger, *ids: str, limited: bool = False) -> None:
    flags = ["debits_must_not_exceed_credits"] if limited else []
    for one in ids:
        insert = "INSERT INTO ledger.accounts (id, ledger, code, flags) VALUES ($1, 1, 1, $2)"
        await ledger.sql(insert, uuid.UUID(one), flags)


async def ask(ledger: Ledger, shard: int, *transfers: tuple[str, str, int]) -> list[str]:
    """Send one entry and return its outcomes."""
    reply = f"{ledger.prefix}:answers:{uuid.uuid4().hex}"
    body = json.dumps([transfer(*one) for one in transfers])
    async with ledger.redis() as redis:
        stream = f"{ledger.prefix}:transfers:{{{shard:04d}}}"
        await redis.xadd(stream, {"json": body, "reply": reply})
        found = await redis.xread({reply: 0}, block=20_000)
        assert found, "no answer"
        outcomes: list[str] = json.loads(found[0][1][0][1][b"outcomes"])
        return outcomes


async def test_handover_under_load_loses_nothing_and_answers_all(own_servers: Servers) -> None:
    ledger = await make_ledger(own_servers.postgres.dsn, own_servers.valkey.url)
    workers = [ledger.worker() for _ in range(3)]
    async with ledger.working(*workers):
        async with producing(ledger, SEED) as producers:
            async with moving(ledger, workers, SEED) as moved:
                await more_answers(producers, 300)
            await more_answers(producers, 100)
        assert moved
        await drained(ledger)
        assert all(worker.statistics.sessions == 1 for worker in workers)
    await producers.check()
    await assert_verified(ledger)


async def test_rolling_restart_under_load_makes_no_errors(own_servers: Servers) -> None:
    ledger = await make_ledger(own_servers.postgres.dsn, own_servers.valkey.url)
    processes = [WorkerProcess(ledger), WorkerProcess(ledger)]
    for process in processes:
        await process.start()
        await process.ready()
    async with producing(ledger, SEED) as producers:
        for place in range(2):
            await more_answers(producers, 150)
            await processes[place].stop()
            processes[place] = WorkerProcess(ledger)
            await processes[place].start()
            await processes[place].ready()
        await more_answers(producers, 150)
    await drained(ledger)
    for process in processes:
        await process.stop()
    await producers.check()
    await assert_verified(ledger)
    rows = await ledger.sql("SELECT DISTINCT state, why FROM ledger.moves")
    assert [tuple(row) for row in rows] == [("done", None)]


async def test_release_with_pipelined_credits(postgres_dsn: str, redis_url: str) -> None:
    """What was decided before the release is in it; what waits to be decided goes along."""
    ledger = await make_ledger(postgres_dsn, redis_url)
    payers = [account(shard, 1) for shard in (0, 1)]
    paid = account(5, 2)
    await accounts(ledger, *payers, paid)
    # Small flushes, so that entries wait in the inbox.
    settings = WorkerSettings(flush_transfers_max=30)
    one, other = ledger.worker(settings=settings), ledger.worker(settings=settings)
    count = 0
    async with ledger.working(one, other), ledger.redis() as redis:
        for _ in range(6):
            for _ in range(40):
                for shard, payer in enumerate(payers):
                    body = json.dumps([transfer(payer, paid, 1) for _ in range(10)])
                    await redis.xadd(f"{ledger.prefix}:transfers:{{{shard:04d}}}", {"json": body})
                    count += 10
            owner, target = (one, other) if 5 in one.owned else (other, one)
            await move(ledger, {0: target, 5: target})
            assert not owner.owned & {0, 5}
            assert owner.statistics.sessions == 1
        await drained(ledger)
    rows = await ledger.sql(
        f"SELECT credits_posted FROM ledger.balances WHERE account_id = '{paid}'"
    )
    assert rows[0]["credits_posted"] == count
    await assert_verified(ledger)


async def test_regain_shard_reloads_stripes(postgres_dsn: str, redis_url: str) -> None:
    """Its own accounts, and those of others that are credited through it."""
    ledger = await make_ledger(postgres_dsn, redis_url, shard_count=4)
    home, near, far = account(0, 1), account(1, 1), account(3, 1)
    await accounts(ledger, home, near, far)
    one, other = ledger.worker(), ledger.worker()
    async with ledger.working(one, other):
        await move(ledger, {0: one, 1: one, 2: other, 3: other})
        assert await ask(ledger, 0, (home, far, 1)) == ["created"]
        await move(ledger, {0: other})
        # What is others' goes through the shard that is left.
        assert await ask(ledger, 1, (near, far, 1)) == ["created"]
        assert await ask(ledger, 0, (home, far, 1), (home, far, 1)) == ["created"] * 2
        await move(ledger, {0: one})
        assert await ask(ledger, 0, (home, far, 1)) == ["created"]
        await move(ledger, {1: other})
        assert await ask(ledger, 0, (home, far, 1)) == ["created"]
        assert one.statistics.conflicts == other.statistics.conflicts == 0
    rows = await ledger.sql("SELECT debits_posted, credits_posted FROM ledger.balances ORDER BY 1")
    assert [tuple(row) for row in rows] == [(0, 6), (1, 0), (5, 0)]
    await assert_verified(ledger)


async def test_handover_after_credit_to_prepared_account(postgres_dsn: str, redis_url: str) -> None:
    """What a worker has in its book of another's account is not what it may decide by later."""
    ledger = await make_ledger(postgres_dsn, redis_url, shard_count=2)
    bank, limited = account(0, 1), account(1, 1)
    await accounts(ledger, bank)
    await accounts(ledger, limited, limited=True)
    one, other = ledger.worker(), ledger.worker()
    async with ledger.working(one, other):
        await move(ledger, {0: one, 1: other})
        # The first has it as a foreign account; the second credits it at home and debits it.
        assert await ask(ledger, 0, (bank, limited, 10)) == ["created"]
        assert await ask(ledger, 1, (limited, bank, 4)) == ["created"]
        await move(ledger, {0: other})
        assert await ask(ledger, 0, (bank, limited, 10)) == ["created"]
        await move(ledger, {0: one, 1: one})
        assert await ask(ledger, 1, (limited, bank, 16)) == ["created"]
        assert await ask(ledger, 1, (limited, bank, 1)) == ["exceeds_credits"]
    await assert_verified(ledger)


async def test_a_hold_lapses_where_its_shard_went(postgres_dsn: str, redis_url: str) -> None:
    ledger = await make_ledger(postgres_dsn, redis_url, shard_count=2)
    debit, credit = account(0, 1), account(0, 2)
    await accounts(ledger, debit, credit)
    one, other = ledger.worker(), ledger.worker()
    async with ledger.working(one, other), ledger.redis() as redis:
        await move(ledger, {0: one, 1: other})
        hold = transfer(debit, credit, 5) | {"flags": ["pending"], "timeout": 1}
        await redis.xadd(f"{ledger.prefix}:transfers:{{0000}}", {"json": json.dumps([hold])})
        await until(lambda: ledger.sql("SELECT FROM ledger.holds"), "the hold")
        await move(ledger, {0: other})

        async def lapsed() -> Any:
            return await ledger.sql("SELECT FROM ledger.holds WHERE status = 'expired'")

        await until(lapsed, "the hold to lapse")
        assert other.statistics.locked == one.statistics.locked == 0
    await assert_verified(ledger)


async def test_workers_share_join_and_leave(postgres_dsn: str, redis_url: str) -> None:
    ledger = await make_ledger(postgres_dsn, redis_url, shard_count=8)
    first, second, third = (ledger.worker() for _ in range(3))
    async with ledger.working(first):
        assert len(first.owned) == 8
        async with ledger.working(second):
            assert len(first.owned) == len(second.owned) == 4
            async with ledger.working(third):
                assert sorted(map(len, (first.owned, second.owned, third.owned))) == [2, 3, 3]
                assert first.owned | second.owned | third.owned == set(range(8))

        async def all_back() -> bool:
            return len(first.owned) == 8

        await until(all_back, "the first to have all shards again")
    await assert_verified(ledger)


async def test_listed_shards_are_those_and_only_those(postgres_dsn: str, redis_url: str) -> None:
    ledger = await make_ledger(postgres_dsn, redis_url, shard_count=8)
    sharing, listed = ledger.worker(), ledger.worker([1, 5])
    async with ledger.working(sharing):
        assert sharing.owned == set(range(8))
        async with ledger.working(listed):
            assert listed.owned == {1, 5}
            assert sharing.owned == {0, 2, 3, 4, 6, 7}
            newcomer = ledger.worker()
            async with ledger.working(newcomer):
                assert listed.owned == {1, 5}
                assert len(newcomer.owned) == 3
        assert id_of(listed) not in {
            str(row["worker"]) for row in await ledger.sql("SELECT worker FROM ledger.shards")
        }
    await assert_verified(ledger)
