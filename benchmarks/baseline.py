"""Bare COPY: the same rows into the same tables, and nothing else."""

import asyncio
import time
from collections.abc import Sequence

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
