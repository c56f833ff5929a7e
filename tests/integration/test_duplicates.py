"""Ids that come twice, in every way that two requests can meet: one effect, and the right name."""

import contextlib
import uuid
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
from structlog.testing import capture_logs

from tests.desks import A, B, Desk, account, batch, desk, transfer
from tests.ledgers import until
from tests.verifying import assert_verified

C, D = account(1, 1), account(1, 2)
"""At home in shard 1."""

BOTH_WAYS = pytest.mark.parametrize("size", [1, 900], ids=["one statement", "by COPY"])


@pytest.fixture
async def at(postgres_dsn: str, redis_url: str) -> AsyncIterator[Desk]:
    async with desk(postgres_dsn, redis_url, C, D, shard_count=2) as made:
        yield made


async def test_duplicate_in_batch(at: Desk) -> None:
    one = transfer()
    other = one | {"amount": 2}
    async with at.ledger.working():
        await at.send([one, one, other, *batch(900), one])
        expected = ["created", "exists", "exists_with_different_amount", *["created"] * 900]
        assert await at.answers(1) == [[*expected, "exists"]]
    await assert_verified(at.ledger)


@BOTH_WAYS
async def test_duplicate_in_pipeline(size: int, at: Desk) -> None:
    """The second comes while the first is decided and not committed."""
    one = batch(size)
    async with at.ledger.working():
        for _ in range(8):
            await at.send(one)
        assert await at.answers(8) == [["created"] * size, *[["exists"] * size] * 7]
    await assert_verified(at.ledger)


async def test_a_repeat_that_would_be_refused_by_now_exists(at: Desk) -> None:
    """The id comes before everything that has changed since: funds, the account, the hold."""
    poor = account(0, 7)
    await at.ledger.sql(
        "INSERT INTO ledger.accounts (id, ledger, code, flags)"
        " VALUES ($1, 1, 1, '{debits_must_not_exceed_credits}')",
        uuid.UUID(poor),
    )
    spend = transfer(poor, B, 10)
    hold = transfer(A, poor, 1, flags=["pending"])
    void = {"id": str(uuid.uuid4()), "pending_id": hold["id"], "flags": ["void_pending_transfer"]}
    close = transfer(poor, A, 0, flags=["pending", "closing_debit"])
    for turn in range(2):
        async with at.ledger.working():
            await at.send([transfer(A, poor, 10), spend, hold, void, close][turn:])
            outcomes = (await at.answers(turn + 1))[turn]
            assert outcomes == (["exists"] * 4 if turn else ["created"] * 5)
    await assert_verified(at.ledger)


@BOTH_WAYS
async def test_duplicate_after_restart(size: int, at: Desk) -> None:
    one = batch(size)
    async with at.ledger.working():
        await at.send(one)
        await at.answers(1)
    async with at.ledger.working():
        await at.send(one)
        assert await at.answers(2) == [["created"] * size, ["exists"] * size]
    await assert_verified(at.ledger)


SPEND = (
    "INSERT INTO ledger.spent (id, number, debit_account, credit_account, amount, code, flags,"
    " shard, outcome) SELECT $1, -1, d.number, c.number, 1, 1, 0, 1, 0"
    f" FROM ledger.accounts d, ledger.accounts c WHERE d.id = '{C}' AND c.id = '{D}'"
)


@contextlib.asynccontextmanager
async def spent_meanwhile(at: Desk, transfer_id: str) -> AsyncIterator[None]:
    """Until the block ends a stranger has spent an id; then it gives it back."""
    stranger = await asyncpg.connect(at.ledger.dsn)
    try:
        await stranger.execute("BEGIN")
        await stranger.execute(SPEND, uuid.UUID(transfer_id))
        yield
    finally:
        await stranger.execute("ROLLBACK")
        await stranger.close()


async def wait_for_locks(at: Desk, count: int) -> None:
    async def wait() -> bool:
        found = await at.ledger.sql(
            "SELECT FROM pg_stat_activity WHERE application_name LIKE 'engine %'"
            " AND datname = current_database() AND wait_event_type = 'Lock'"
        )
        return len(found) == count

    await until(wait, f"{count} flushes to wait")


async def at_once(
    at: Desk, first: list[dict[str, Any]], second: list[dict[str, Any]], held: str
) -> int:
    """Have both shards flush, each held up at an id; the deadlocks that their workers met."""
    with capture_logs() as logs:
        async with at.ledger.working(at.ledger.worker([0]), at.ledger.worker([1])):
            async with spent_meanwhile(at, held):
                await at.send(first, shard=0)
                await at.send(second, shard=1)
                await wait_for_locks(at, 2)
            await at.answers(2)
    return sum("deadlock" in str(entry.get("reason")) for entry in logs)


async def test_opposite_id_order_no_deadlock(at: Desk) -> None:
    """Two flushes spend the same ids, in opposite orders: they queue up."""
    ids = [str(uuid.uuid4()) for _ in range(900)]
    first = [transfer(A, B, id=one) for one in ids]
    second = [transfer(C, D, id=one) for one in reversed(ids)]
    assert await at_once(at, first, second, ids[450]) == 0
    outcomes = await at.answered()
    assert sorted(outcome[0] for outcome in outcomes) == [
        "created",
        "exists_with_different_debit_account_id",
    ]
    assert [len(set(outcome)) for outcome in outcomes] == [1, 1]
    assert await at.count() == 900
    await assert_verified(at.ledger)


@pytest.mark.parametrize("size", [1, 400], ids=["one statement", "by COPY"])
async def test_same_id_two_shards_created_and_declined(size: int, at: Desk) -> None:
    """Created in one, refused in the other, at the same moment: one of the two, and it stays."""
    ids = [str(uuid.uuid4()) for _ in range(size)]
    first = [transfer(A, B, id=one) for one in ids]
    second = [transfer(C, account(1, 9), id=one) for one in ids]  # no such account
    await at_once(at, first, second, ids[-1])
    rows = await at.ledger.sql("SELECT count(*) AS n, count(DISTINCT id) AS ids FROM ledger.spent")
    assert tuple(rows[0]) == (size, size)
    told = {tuple(sorted(set(outcome))) for outcome in await at.answered()}
    assert told in (
        {("created",), ("exists_with_different_debit_account_id",)},
        {("credit_account_not_found",), ("id_already_failed",)},
    )
    await assert_verified(at.ledger)


async def test_duplicate_with_other_content_in_other_shard(at: Desk) -> None:
    one = transfer(A, B, 5)
    async with at.ledger.working(at.ledger.worker([0]), at.ledger.worker([1])):
        await at.send([one])
        await at.answers(1)
        for changed, name in (
            ({"debit_account_id": C, "credit_account_id": D}, "debit_account_id"),
            ({"amount": 6}, "amount"),
            ({"user_data_32": 1}, "user_data_32"),
            ({"code": 2}, "code"),
        ):
            await at.send([one | changed], shard=1)
            answers = await at.answers(1 + len(await at.answered()))
            assert answers[-1] == [f"exists_with_different_{name}"]
        await at.send([one], shard=1)
        assert (await at.answers(6))[-1] == ["exists"]
    await assert_verified(at.ledger)


async def test_exists_on_uncommitted_id_in_other_shard(at: Desk) -> None:
    """`exists` is told once what exists is committed, and is no more a lie when it is not."""
    one = transfer(C, D)
    async with at.ledger.working(at.ledger.worker([0])):
        async with spent_meanwhile(at, one["id"]):
            await at.send([transfer(A, B, id=one["id"])])
            await wait_for_locks(at, 1)
            assert await at.answered() == []
        assert await at.answers(1) == [["created"]]
    await assert_verified(at.ledger)
