"""What waits for whom, and how that ends: the same in memory and in a real Postgres."""

import asyncio
import uuid
from collections.abc import AsyncIterator

import asyncpg
import pytest

from engine.store.driver_errors import is_connection_lost
from engine.store.statements import statement
from tests.bounds import CONDITION_SECONDS_MAX
from tests.ledgers import make_ledger
from tests.simulation.sides import (
    NOBODY,
    TIME,
    Memory,
    Real,
    Side,
    copy_spent,
    fence,
    run,
    value,
    waits,
)


@pytest.fixture(params=["memory", "real"])
async def side(request: pytest.FixtureRequest) -> AsyncIterator[Side]:
    if request.param == "memory":
        made: Side = Memory()
    else:
        dsn = request.getfixturevalue("postgres_dsn")
        made = Real(await make_ledger(dsn, "", shard_count=4))
    yield made
    made.close()


async def test_a_locked_row_is_waited_for(side: Side) -> None:
    one, two = await side.connect(), await side.connect()
    worker = await side.worker(one)
    await one.execute("BEGIN")
    assert await run(one, "lock_workers", [worker]) == [{"worker": worker}]
    waiting = asyncio.create_task(fence(two, worker, 1))
    assert await waits(waiting)
    await one.execute("ROLLBACK")
    assert await waiting > 0


async def test_who_waits_too_long_gives_up_and_has_no_transaction_left(side: Side) -> None:
    one, two, three = await side.connect(), await side.connect(), await side.connect()
    worker, other = await side.worker(one), await side.worker(one)
    await one.execute("BEGIN")
    await run(one, "lock_workers", [worker])
    await two.execute("BEGIN")
    await run(two, "lock_workers", [other])
    with pytest.raises(asyncpg.LockNotAvailableError):
        await run(two, "lock_workers", [worker])
    # Its locks are gone with the error, before it rolls back.
    assert await fence(three, other, 1) > 0
    with pytest.raises(asyncpg.InFailedSQLTransactionError):
        await run(two, "shard_count")
    assert await two.execute("COMMIT") == "ROLLBACK"
    assert await run(two, "shard_count") == [{"shard_count": 4}]


async def test_a_number_that_is_taken_is_refused_by_name(side: Side) -> None:
    one = await side.connect()
    worker = await side.worker(one)
    await fence(one, worker, 1)
    with pytest.raises(asyncpg.UniqueViolationError) as refused:
        await fence(one, worker, 1)
    assert refused.value.constraint_name == "flushes_pkey"
    assert await fence(one, uuid.uuid4().bytes, 1) is None


@pytest.mark.parametrize("commits", [True, False])
async def test_an_id_that_another_is_entering_is_waited_for(side: Side, commits: bool) -> None:
    one, two = await side.connect(), await side.connect()
    transfer_id = uuid.uuid4().bytes
    await one.execute("BEGIN")
    await copy_spent(one, transfer_id)
    await two.execute("BEGIN")
    waiting = asyncio.create_task(copy_spent(two, transfer_id))
    assert await waits(waiting)
    await one.execute("COMMIT" if commits else "ROLLBACK")
    if commits:
        with pytest.raises(asyncpg.UniqueViolationError) as refused:
            await waiting
        assert refused.value.constraint_name == "spent_pkey"
        await two.execute("ROLLBACK")
    else:
        await waiting
        await two.execute("COMMIT")
    assert len(await run(one, "spent_by_id", [transfer_id])) == 1


async def test_a_copy_that_fails_leaves_nothing(side: Side) -> None:
    one = await side.connect()
    first, second = sorted([uuid.uuid4().bytes, uuid.uuid4().bytes])
    await copy_spent(one, second)
    with pytest.raises(asyncpg.UniqueViolationError):
        await copy_spent(one, first, second)
    assert [row["id"] for row in await run(one, "spent_by_id", [first, second])] == [second]


async def test_what_would_wait_for_ever_is_a_deadlock_for_one_of_them(side: Side) -> None:
    one, two = await side.connect(), await side.connect()
    a, b = await side.worker(one), await side.worker(one)
    for connection, worker in ((one, a), (two, b)):
        await connection.execute("BEGIN")
        await run(connection, "lock_workers", [worker])
    tasks = [
        asyncio.create_task(run(one, "lock_workers", [b])),
        asyncio.create_task(run(two, "lock_workers", [a])),
    ]
    results = await asyncio.gather(*tasks, return_exceptions=True)
    errors = [one for one in results if isinstance(one, BaseException)]
    assert [type(error) for error in errors] == [asyncpg.DeadlockDetectedError]


async def test_who_waits_sees_what_was_before_and_then_what_is(side: Side) -> None:
    """An update looks again at the row that it waited for, and finds that it fits no more."""
    one, two = await side.connect(), await side.connect()
    first, second = await side.worker(one), await side.worker(one)
    number = await value(one, "reserve_number")
    await one.execute("BEGIN")
    await run(one, "change_owner", [0], NOBODY, first, number)
    waiting = asyncio.create_task(run(two, "change_owner", [0], NOBODY, second, number + 1))
    assert await waits(waiting)
    assert [row["worker"] for row in await run(await side.connect(), "owners", [0])] == [NOBODY]
    await one.execute("COMMIT")
    await waiting
    assert [row["worker"] for row in await run(two, "owners", [0])] == [first]


@pytest.mark.parametrize("name", ["flush_small", "flush_one"])
async def test_a_small_flush_waits_for_its_workers_row_before_it_enters_an_id(
    side: Side, name: str
) -> None:
    one, two, three = await side.connect(), await side.connect(), await side.connect()
    worker = await side.worker(one)
    transfer_id, number = uuid.uuid4().bytes, await value(one, "reserve_number")
    await one.execute("BEGIN")
    await run(one, "lock_workers", [worker])
    spent = [[transfer_id], [number << 20], [None], [None], [None], [None], [0], [0], [54]]
    arguments = [worker, 1, number, TIME, 0, 1, 0, *spent, *([None] for _ in range(7))]
    arguments += [number << 20, *([] for _ in range(12 + 4 + 5)), bytes(32), []]
    if name == "flush_one":
        arguments = [worker, 1, number, TIME, bytes(32), None, transfer_id, number << 20]
        arguments += [1, 2, 5, 1, 0, 0, *[None] * 5, *range(16), 0, 0, 1, 0, TIME, *[None] * 5]
    waiting = asyncio.create_task(value(two, name, *arguments))
    assert await waits(waiting)
    await three.execute("BEGIN")
    await copy_spent(three, transfer_id)
    await three.execute("ROLLBACK")
    await one.execute("COMMIT")
    assert await waiting > number
    assert len(await run(one, "spent_by_id", [transfer_id])) == 1


async def test_a_backend_that_is_ended_takes_its_transaction_with_it(side: Side) -> None:
    one, two = await side.connect("engine victim"), await side.connect()
    worker = await side.worker(two)
    await one.execute("BEGIN")
    await run(one, "lock_workers", [worker])
    pid = one.get_server_pid()
    assert await value(two, "end_backend", pid, "engine somebody else") is None
    assert await value(two, "end_backend", pid, "engine victim") is True
    while await value(two, "end_backend", pid, "engine victim"):  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    assert await fence(two, worker, 1) > 0
    with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, OSError)) as lost:
        await one.execute("COMMIT")
    assert is_connection_lost(lost.value)
    assert one.is_closed()


async def test_a_client_that_goes_away_leaves_nothing(side: Side) -> None:
    one, two = await side.connect(), await side.connect()
    worker = await side.worker(two)
    await one.execute("BEGIN")
    await fence(one, worker, 1)
    one.terminate()
    assert await fence(two, worker, 1) > 0
    with pytest.raises(asyncpg.InterfaceError, match="closed"):
        await one.execute("BEGIN")


async def test_a_statement_that_takes_too_long_is_cancelled_and_no_more(side: Side) -> None:
    one, two = await side.connect(), await side.connect()
    worker = await side.worker(one)
    await one.execute("BEGIN")
    await run(one, "lock_workers", [worker])
    with pytest.raises(TimeoutError):
        await two.fetch(statement("lock_workers"), [worker], timeout=0.2)
    assert await run(two, "shard_count") == [{"shard_count": 4}]


async def test_one_connection_does_one_thing_at_a_time(side: Side) -> None:
    one, two = await side.connect(), await side.connect()
    worker = await side.worker(one)
    await one.execute("BEGIN")
    await run(one, "lock_workers", [worker])
    waiting = asyncio.create_task(run(two, "lock_workers", [worker]))
    assert await waits(waiting)
    with pytest.raises(asyncpg.InterfaceError, match="another operation is in progress"):
        await run(two, "shard_count")
    await one.execute("ROLLBACK")
    assert await waiting == [{"worker": worker}]


async def test_who_declines_waits_for_who_declined_before(side: Side) -> None:
    one, two = await side.connect(), await side.connect()
    await one.execute("BEGIN")
    await run(one, "queue_to_decline")
    await two.execute("BEGIN")
    waiting = asyncio.create_task(run(two, "queue_to_decline"))
    assert await waits(waiting)
    await one.execute("COMMIT")
    await waiting


async def test_a_frozen_one_is_cleared_out_of_the_way_and_nobody_else(side: Side) -> None:
    one, two, three = await side.connect(), await side.connect(), await side.connect()
    wanted, frozen, me = [await side.worker(two) for _ in range(3)]
    holder = await side.connect(f"engine {uuid.UUID(bytes=frozen)}")
    await holder.execute("BEGIN")
    await run(holder, "lock_workers", [wanted])
    waiting = asyncio.create_task(run(one, "lock_workers", [wanted]))
    assert await waits(waiting)
    pid = one.get_server_pid()
    assert await run(three, "terminate_blockers", pid, me) == []
    await run(three, "expire_worker", frozen)
    assert await run(three, "terminate_blockers", pid, frozen) == []
    (ended,) = await run(three, "terminate_blockers", pid, me)
    assert ended == {"application_name": f"engine {uuid.UUID(bytes=frozen)}", "ended": True}
    assert await waiting == [{"worker": wanted}]


async def test_a_dead_letter_that_is_there_is_seen_and_refused(side: Side) -> None:
    one, two = await side.connect(), await side.connect()
    letter = ([0], [0], [5], [1], ["for the test"], [1, 1], [b"a", b"b"], 7)
    assert await run(one, "letters_there", *letter[:4]) == []
    await one.execute("BEGIN")
    await run(one, "insert_dead_letters", *letter)
    waiting = asyncio.create_task(run(two, "insert_dead_letters", *letter))
    assert await waits(waiting)
    await one.execute("COMMIT")
    with pytest.raises(asyncpg.UniqueViolationError):
        await waiting
    there = await run(two, "letters_there", *([*key, 3] for key in letter[:4]))
    assert [(row["shard"], row["generation"], row["ms"], row["seq"]) for row in there] == [
        (0, 0, 5, 1)
    ]


async def test_dead_letters_keep_each_its_fields(side: Side) -> None:
    one = await side.connect()
    places, fields = [1, 1, 3, 3, 3, 3], [b"a", b"1", b"c", b"", b"d", b"\0\xff"]
    columns = [0] * 3, [0] * 3, [5, 6, 7], [0] * 3, ["x", "y", "z"]
    await run(one, "insert_dead_letters", *columns, places, fields, 7)
    rows = await side.dead_letters()
    assert [(row["ms"], row["reason"], row["fields"]) for row in rows] == [
        (5, "x", [b"a", b"1"]),
        (6, "y", []),
        (7, "z", [b"c", b"", b"d", b"\0\xff"]),
    ]


async def test_dead_letters_of_one_id_are_seen_in_every_generation_they_are_in(side: Side) -> None:
    one = await side.connect()
    for generation, content in ((0, b"1"), (4, b"2"), (5, b"3")):
        letter = [0], [generation], [5], [0], ["x"], [1, 1], [b"a", content], 7
        await run(one, "insert_dead_letters", *letter)
    for asked, seen in ((0, [0, 4]), (4, [4]), (1, [5]), (8, [])):
        there = await run(one, "letters_there", [0, 0], [asked] * 2, [5, 5], [0, 0])
        assert sorted(row["generation"] for row in there) == seen


async def test_changes_of_owners_are_told_once_they_are_committed(side: Side) -> None:
    one, two = await side.connect(), await side.connect()
    worker = await side.worker(one)
    told = asyncio.Event()
    await two.add_listener("ledger_shards", lambda *_: told.set())
    number = await value(one, "reserve_number")
    await one.execute("BEGIN")
    await run(one, "change_owner", [0], NOBODY, worker, number)
    await asyncio.wait([asyncio.create_task(told.wait())], timeout=0.2)
    assert not told.is_set()
    await one.execute("COMMIT")
    await asyncio.wait_for(told.wait(), CONDITION_SECONDS_MAX)


async def test_a_worker_that_is_registered_stays_as_it_is(side: Side) -> None:
    one = await side.connect()
    worker = await side.worker(one, [0])
    await run(one, "register_worker", worker, "host", 1, 0.0, [1])
    (found,) = await run(one, "look_at_workers")
    assert (found["worker"], found["shards"]) == (worker, [0])
