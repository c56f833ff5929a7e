"""A flush of one transfer leaves the rows that the general statement leaves."""

import random
import uuid
from typing import Any

import numpy as np
import pytest

from engine.book.book import Book
from engine.book.columns import AccountColumns, Resolutions
from engine.book.content import first_used
from engine.book.postings import post_decisions
from engine.deciding.batch import PENDING, Batch
from engine.deciding.few import decide_few
from engine.ledger.nouns import Position, Transfer
from engine.ledger.page import HoldStatus
from engine.store.connections import Connections
from engine.store.flush_copies import FLUSH_SHIFT
from engine.store.flush_writer import prepare
from engine.store.rows import Flush
from engine.store.single_flush import Seal, is_single, write_single
from engine.store.small_flush import is_small, small_arguments
from engine.wire.layout import transfers_to_rows
from tests.ledgers import Ledger, clock, make_ledger
from tests.worlds import new_accounts

SHARD_COUNT = 4
TABLES = {
    "spent": "number >> 20 = $1",
    "posted": "number >> 20 = $1",
    "positions": "flush = $1",
    "flushes": "number = $1",
    "resolutions": "number >> 20 = $1",
}


class Writing:
    """A worker that writes each flush in two ways, and takes back what it wrote."""

    def __init__(self, connections: Connections, accounts: AccountColumns) -> None:
        self.connections = connections
        self.accounts = accounts
        self.book = Book(range(SHARD_COUNT), 0, SHARD_COUNT)
        self.book.add_accounts(accounts)

    async def flush(self, *transfers: Transfer, shards: int = 1) -> Flush:
        """Decided, not written; through so many shards."""
        rows = transfers_to_rows(list(transfers))
        now = clock()
        decision = decide_few(self.book, Batch([rows], [0]), now)
        assert decision is not None
        self.book.note_decision(decision)
        posted = post_decisions(self.book, [decision])
        self.book.begin_flush()
        places = {shard: Position(shard, 7 + shard, 9) for shard in range(shards)}
        until = {shard: now - shard for shard in places}
        number = await self.connections.reserve_number()
        flush = Flush(1, number, now, [decision], posted, places, until, [])
        prepare(flush)
        return flush

    async def written(self, flush: Flush, *, by_one: bool) -> dict[str, list[Any]]:
        """The rows that it leaves, by table."""
        connection, number = self.connections.writer, flush.number
        assert flush.digest is not None
        seal = Seal(flush.digest, first_used(flush.posted))
        await connection.execute("BEGIN")
        try:
            if by_one:
                following = await write_single(self.connections, flush, seal)
            else:
                base = number << FLUSH_SHIFT
                arguments = [*small_arguments(self.connections.worker, flush, base), *seal]
                following = await connection.fetchval(
                    self.connections.text("flush_small"), *arguments
                )
            assert following > number
            return {
                table: sorted(map(tuple, await connection.fetch(query, number)), key=repr)
                for table, query in (
                    (table, f"SELECT * FROM ledger.{table} WHERE {where}")
                    for table, where in TABLES.items()
                )
            }
        finally:
            await connection.execute("ROLLBACK")


@pytest.fixture
async def writing(postgres_dsn: str) -> Any:
    ledger = await make_ledger(postgres_dsn, "", shard_count=SHARD_COUNT)
    connections = Connections(ledger.engine_dsn, uuid.uuid4().bytes)
    await connections.open()
    await connections.write("register_worker", connections.worker, "host", 1, 60.0, None)
    yield Writing(connections, await _accounts(ledger))
    connections.drop()


async def _accounts(ledger: Ledger) -> AccountColumns:
    rows = await ledger.sql(
        "INSERT INTO ledger.accounts (id, ledger, code) SELECT gen_random_uuid(), 1, 1"
        " FROM generate_series(1, 6) RETURNING id, number, shard"
    )
    accounts = new_accounts(
        [(row["id"].bytes, row["number"], row["shard"], 1, 1, 0) for row in rows]
    )
    met = np.array([[0], [0], [0], [10**6]]) + np.zeros(len(rows), np.int64)
    return accounts._replace(version=np.arange(len(rows)) % 2, own=met, others=met)


def _drawn(chance: random.Random, accounts: AccountColumns) -> Transfer:
    debit, credit = chance.sample(range(len(accounts.ids)), 2)
    held = chance.random() < 0.4
    return Transfer(
        chance.randbytes(16),
        accounts.ids[debit].tobytes(),
        accounts.ids[credit].tobytes(),
        chance.choice([0, 1, chance.randrange(2**40)]),
        user_data_128=chance.choice([bytes(16), chance.randbytes(16)]),
        user_data_64=chance.choice([0, 1, 2**63 - 1, 2**63, 2**64 - 1]),
        user_data_32=chance.choice([0, 2**32 - 1]),
        timeout=chance.choice([0, 1, 2**31]) if held else 0,
        ledger=1,
        code=chance.choice([1, 65535]),
        flags=PENDING if held else 0,
    )


async def test_a_flush_of_one_leaves_the_rows_of_the_general_statement(writing: Writing) -> None:
    chance = random.Random(16)
    for _ in range(60):
        flush = await writing.flush(_drawn(chance, writing.accounts), shards=chance.choice([1, 2]))
        assert is_small(flush)
        assert is_single(flush)
        by_one = await writing.written(flush, by_one=True)
        assert by_one == await writing.written(flush, by_one=False)
        assert [len(by_one[table]) for table in TABLES] == [1, 2, len(flush.positions), 1, 0]


async def test_what_is_more_than_one_transfer_takes_the_general_statement(
    writing: Writing,
) -> None:
    chance = random.Random(3)
    drawn = [_drawn(chance, writing.accounts) for _ in range(2)]
    assert not is_single(await writing.flush(*drawn))
    assert not is_single(await writing.flush(_drawn(chance, writing.accounts), shards=3))
    ending = await writing.flush(_drawn(chance, writing.accounts))
    assert is_single(ending)
    hold_id = np.frombuffer(chance.randbytes(16), "V16")
    posted = np.array([HoldStatus.posted], np.uint8)
    ending.decided[0].resolutions = Resolutions(hold_id, hold_id, posted)
    assert not is_single(ending)
