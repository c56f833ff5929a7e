"""Bare COPY: the same rows into the same tables, and nothing else."""

import asyncio
import time
import uuid
from collections.abc import Sequence
from typing import Any

import asyncpg
import numpy as np

from benchmarks.workload import SHARDS, Accounts
from engine.book import Book
from engine.deciding import Batch, Deciding
from engine.rows import AccountRow
from engine.store.copying import Copy, copies_of_spent, copy_of_posted
from engine.wire.layout import Rows

FLUSH = 20_000


def make_flushes(
    accounts: Accounts, rows: Rows, connections: int
) -> list[list[tuple[list[Copy], Copy]]]:
    """What each connection is to copy, flush by flush: transfers, then postings.

    The accounts are numbered apart from those of the engine's run, so that the rows are new.
    """
    books = []
    for _ in range(connections):
        book = Book(range(SHARDS), 0, SHARDS, len(accounts.ids))
        book.add_accounts(
            AccountRow(one.tobytes(), 10_000_000 + number, int(shard), 1, 1, 0, closed=False,
                       version=0, own=(0, 0, 0, 0), others=(0, 0, 0, 0))
            for number, (one, shard) in enumerate(zip(accounts.ids, accounts.shards, strict=True))
        )  # fmt: skip
        books.append(book)
    fresh = rows.copy()
    ids = np.ascontiguousarray(fresh["id"]).view(np.uint8).reshape(-1, 16).copy()
    ids[:, 15] ^= 0x5A
    fresh["id"] = ids.view("V16").ravel()
    made: list[list[tuple[list[Copy], Copy]]] = [[] for _ in range(connections)]
    for turn, start in enumerate(range(0, len(fresh), FLUSH)):
        at = turn % connections
        book = books[at]
        deciding = Deciding(book, Batch([fresh[start : start + FLUSH]], [0]), [], 1)
        assert deciding.advance() is None
        decided = deciding.finish()
        posted = book.post([decided])
        posted["stripe"] += at * 512  # each connection its own stripes
        book.begin_flush()
        book.land_flush()
        base = (1 << 62) + (turn << 20)
        made[at].append((list(copies_of_spent([decided], base)), copy_of_posted(posted, base)))
    return made


async def copy_bare(dsn: str, flushes: Sequence[Sequence[tuple[list[Copy], Copy]]]) -> float:
    """Copy all of it; returns the seconds taken."""
    connections = [await asyncpg.connect(dsn) for _ in flushes]

    async def copy_all(
        connection: asyncpg.Connection, mine: Sequence[tuple[list[Copy], Copy]]
    ) -> None:
        for spent, posted in mine:
            async with connection.transaction():
                for copy in spent:
                    await _copy(connection, "spent", copy)
                await _copy(connection, "posted", posted)

    started = time.time()
    await asyncio.gather(*map(copy_all, connections, flushes))
    seconds = time.time() - started
    for connection in connections:
        await connection.close()
    return seconds


async def _copy(connection: asyncpg.Connection, table: str, copy: Copy) -> None:
    async def pieces():  # noqa: ANN202
        view = memoryview(copy.data)
        for start in range(0, len(view), 512 * 1024):
            yield view[start : start + 512 * 1024]

    await connection.copy_to_table(
        table, schema_name="ledger", columns=copy.columns, format="binary", source=pieces()
    )


_INSERT = """
WITH number AS (SELECT nextval('ledger.flush_numbers') << 20 AS base),
spent AS (
    INSERT INTO ledger.spent (id, number, debit_account, credit_account, amount, code, flags,
                              shard, outcome)
    SELECT $1, base, $2, $3, $4, 1, 0, 0, 0 FROM number)
INSERT INTO ledger.posted (number, stripe, version, amount, pending_amount, debits_pending,
                           debits_posted, credits_pending, credits_posted, transfer_id, run)
SELECT base + place, base + place, 1, CASE place WHEN 0 THEN -$4::bigint ELSE $4 END,
       0, 0, 0, 0, 0, $1, 1
FROM number, generate_series(0, 1) AS place
"""


def beside_inserts(row: dict[str, Any], dsn: str, connections: int) -> None:
    """Put beside what was measured a transaction of bare inserts a transfer.

    Args:
        row: With its `transfers` and `transfers_per_second`.
        dsn: The ledger; what is inserted belongs to no account of it.
        connections: Each inserts one after the other.
    """
    count = min(row["transfers"], 1_000 * connections)
    seconds = sum(asyncio.run(insert_each(dsn, count, connections))) / connections
    row["bare_insert_per_second"] = round(count / seconds)
    row["ratio"] = round(row["transfers_per_second"] * seconds / count, 3)


async def insert_each(dsn: str, count: int, connections: int) -> list[float]:
    """Insert as many transfers with their postings, and return how many seconds each took."""
    waiting = iter(range(count))
    pool = [await asyncpg.connect(dsn) for _ in range(connections)]
    taken = []

    async def insert(connection: asyncpg.Connection) -> None:
        statement = await connection.prepare(_INSERT)
        for amount in waiting:
            began = time.perf_counter()
            await statement.fetch(uuid.uuid4(), 1, 2, amount)
            taken.append(time.perf_counter() - began)

    await asyncio.gather(*map(insert, pool))
    for connection in pool:
        await connection.close()
    return taken
