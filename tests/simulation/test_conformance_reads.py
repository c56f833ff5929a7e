"""The same story written to both sides reads the same: every statement of loads and flushes."""

import re
import uuid
from pathlib import Path
from typing import Any

import pytest

import engine.store
from engine.book.book import Book
from engine.book.columns import AccountColumns
from engine.book.postings import post_decisions
from engine.deciding.batch import Batch
from engine.deciding.decider import Decider
from engine.ledger.nouns import AMOUNT_MAX, ID_ZERO, Position, Transfer
from engine.store.rows import DeadLetter, Flush
from engine.store.statements import statements
from engine.store.worker_store import WorkerStore
from engine.wire.layout import transfers_to_rows
from engine.worker.prefetch import look_up
from tests.ledgers import make_ledger
from tests.simulation.connection import Connector, UnknownStatementError, name_of
from tests.simulation.database import Database
from tests.simulation.network import Network
from tests.simulation.sides import TIME, Memory, Real, Side, run, value
from tests.simulation.statements import STATEMENTS

LIMIT = "debits_must_not_exceed_credits"
ACCOUNTS = [uuid.UUID(int=(n << 64) | shard).bytes for n, shard in ((1, 0), (2, 1), (3, 2), (4, 1))]
A, B, FAR, POOR = ACCOUNTS
MINE, OTHER = uuid.UUID(int=77).bytes, uuid.UUID(int=78).bytes


def transfer(number: int, debit: bytes, credit: bytes, amount: int, flags: int = 0, **more: Any):
    return Transfer(
        id=uuid.UUID(int=number).bytes,
        debit_account_id=debit,
        credit_account_id=credit,
        amount=amount,
        ledger=1,
        code=1,
        flags=flags,
        **more,
    )


def ending(number: int, hold: int, flags: int) -> Transfer:
    amount = AMOUNT_MAX if flags & 4 else 0
    pending = uuid.UUID(int=hold).bytes
    return transfer(number, ID_ZERO, ID_ZERO, amount, flags, pending_id=pending)


STEPS: list[tuple[list[Transfer], list[bytes]]] = [
    (
        [
            transfer(1, A, B, 10),
            transfer(2, A, FAR, 7, user_data_64=2**64 - 1, user_data_32=5),
            transfer(3, POOR, A, 1),
            transfer(4, A, B, 4, 2, timeout=60, user_data_128=b"u" * 16),
            transfer(5, A, POOR, 6, 2),
        ],
        [],
    ),
    ([ending(6, 4, 8), ending(7, 5, 4), transfer(8, POOR, FAR, 3), transfer(9, B, A, 2)], []),
    ([transfer(10, A, B, 1, 2, timeout=1), transfer(11, A, B, 0, 2)], []),
    ([], [uuid.UUID(int=10).bytes]),
]


def listed(accounts: AccountColumns) -> list[Any]:
    """Their columns as lists, to compare."""
    return [getattr(column, "tolist", lambda: accounts.others_time)() for column in accounts]


async def told(store: WorkerStore, *, by_copy: bool) -> list[Any]:
    """Write the story; returns everything that can be read of it."""
    await store.open()
    await store.ownership.register(60.0, [0, 1])
    claimed = await store.ownership.claim(ID_ZERO, [0, 1], owned={}, time=TIME)
    ownership = await store.load_ownership()
    read: list[Any] = [claimed, ownership.sequence, ownership.shards]
    book = Book(ownership.shards, 0, 4)
    number = ownership.number
    for at, (transfers, due) in enumerate(STEPS):
        time = TIME + (at + 1) * 2_000_000
        batch = Batch([transfers_to_rows(transfers)], [0])
        deciding = Decider(book, batch, due, time, careful=True)
        read.append(await look_up(deciding, book, store))
        decided = deciding.finish_batch()
        posted = post_decisions(book, [decided])
        positions = {shard: Position(0, 100 + at, shard) for shard in (0, 1)}
        letters = [DeadLetter(0, positions[0], "for the test", [b"a", b"b"])] if by_copy else []
        resolved = dict.fromkeys(positions, time - 7)
        flush = Flush(2 + at, number, time, [decided], posted, positions, resolved, letters)
        number = await store.flush(flush)
        book.begin_flush()
        book.end_flush()
        read.append(decided.outcomes.tolist())
    await store._connections.read("close_accounts", [A, FAR, B], [True, True, False], locked=True)
    ids = [uuid.UUID(int=number).bytes for number in range(1, 13)]
    read += [
        sorted(await store.load_records(ids), key=lambda one: one.transfer.id),
        listed(await store.load_accounts(ACCOUNTS, [0, 1], 0)),
        listed(await store.load_accounts(ACCOUNTS, [2, 3], 2)),
        sorted(zip(*(await store.load_others([1, 2, 3, 4]))[:2], strict=True)),
        (await store.load_others([1, 2, 3, 4]))[2],
        await store.load_expiring({0: 0, 1: 0}, TIME + 10**9, 100),
        await store.load_expiring({0: 0, 1: 0}, TIME + 10**9, 1),
        await store.load_expiring({0: TIME + 10**8}, TIME + 10**9, 100),
        sorted((await store.load_positions([0, 1, 2])).items()),
        (await store.load_ownership()).shards,
    ]
    lenders = await store.begin_locked_flush([0, 1, 2])
    read += [lenders, await store.load_records(ids[:1], locked=True)]
    await store.abandon_locked_flush()
    store.drop()
    return read


@pytest.mark.parametrize("by_copy", [False, True], ids=["one statement", "by COPY"])
async def test_what_is_written_reads_the_same_on_both_sides(
    by_copy: bool, postgres_dsn: str
) -> None:
    database = Database(4, Network())
    ledger = await make_ledger(postgres_dsn, "", shard_count=4)
    real = Real(ledger)
    for account in ACCOUNTS:
        flags = (LIMIT,) if account == POOR else ()
        database.create_account(account, 1, flags)
        await real.create_account(account, *flags)
    in_memory = WorkerStore("memory", MINE, Connector(database, Network()))
    in_postgres = WorkerStore(ledger.engine_dsn, MINE)
    assert await told(in_memory, by_copy=by_copy) == await told(in_postgres, by_copy=by_copy)


async def owned(side: Side) -> list[Any]:
    """A story of ownership; returns what is read of it."""
    one = await side.connect()
    for worker, shards in ((MINE, [0, 1]), (OTHER, None)):
        await run(one, "register_worker", worker, "host", 1, 60.0, shards)
    read: list[Any] = [await run(one, "look_at_workers")]

    async def look() -> None:
        rows = await run(one, "look_at_shards")
        read.append([row | {"seconds_left": row["seconds_left"] > 0} for row in rows])
        read.append(await run(one, "owners", [0, 1, 2]))

    await look()
    for shards, worker in (([0, 1], MINE), ([2, 3], OTHER)):
        number = await value(one, "reserve_number")
        await run(one, "change_owner", shards, ID_ZERO, worker, number)
    await run(one, "ask_moves", None, [0, 0, 2], [MINE, MINE, OTHER], [OTHER, OTHER, MINE], "me")
    await look()
    await run(one, "moves_released", [0, 2], 0.5)
    await run(one, "ask_moves", uuid.uuid4().bytes, [3], [OTHER], [MINE], "an operator")
    await look()
    await run(one, "moves_claimed", [0, 2], OTHER)
    await look()
    await run(one, "moves_done", [0], OTHER)
    await run(one, "refuse_moves", [1, 2, 3, 4, 5], "for the test")
    await look()
    await run(one, "record_loads", MINE, [0, 1], [1.5, 2.5], [0.1, 0.2], 0.3)
    await run(one, "record_loads", OTHER, [1], [3.5], [0.4], 0.5)
    await run(one, "expire_worker", MINE)
    read.append(await run(one, "look_at_workers"))
    await look()
    await run(one, "heartbeat", MINE, 60.0)
    await run(one, "append_lent_flush", [MINE, OTHER], "lent", TIME, None)
    await look()
    read += [await run(one, "ownership", MINE), await run(one, "ownership", OTHER)]
    read.append(await run(one, "find_flush", MINE, 1, 1))
    return read


async def test_who_owns_what_reads_the_same_on_both_sides(postgres_dsn: str) -> None:
    sides: list[Side] = [Memory(), Real(await make_ledger(postgres_dsn, "", shard_count=4))]
    in_memory, in_postgres = [await owned(side) for side in sides]
    for side in sides:
        side.close()
    assert in_memory == in_postgres


def test_every_statement_of_a_worker_can_be_simulated() -> None:
    """And any other fails loudly."""
    folder = Path(engine.store.__file__).parent
    modules = ("worker_store", "flush_writer", "ownership", "connections", "commit", "assumptions")
    source = "".join((folder / f"{name}.py").read_text() for name in modules)
    quoted = set(re.findall(r'"([a-z_]+)"', source))
    used = statements().keys() & quoted
    assert len(used) > 25
    assert used <= STATEMENTS.keys()
    with pytest.raises(UnknownStatementError):
        name_of("SELECT 1")
