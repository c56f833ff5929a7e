"""Bare COPY: the same rows into the same tables, and nothing else."""

import asyncio
import time
import uuid
from collections.abc import Sequence
from typing import Any

import asyncpg
import numpy as np

from benchmarks.workload import SHARDS, Accounts
from engine.book.book import Book
from engine.book.columns import AccountColumns
from engine.book.postings import post_decisions
from engine.deciding.batch import Batch
from engine.deciding.decider import Decider
from engine.ledger.nouns import AccountFlags
from engine.settings import WorkerSettings
from engine.store.copy import Copy, send_copy
from engine.store.flush_copies import copies_of
from engine.wire.layout import Rows

FLUSH = WorkerSettings().flush_transfers_max

Copies = list[tuple[str, Copy]]
"""A flush: tables and their rows as bytes."""


def new_book(accounts: Accounts, numbers: Sequence[int], *, limited: bool = False) -> Book:
    """A book that owns all shards and has met all accounts, none of which has money.

    Args:
        accounts: Which.
        numbers: Theirs in Postgres.
        limited: Whether all but those that fund must not spend more than they have.
    """
    book = Book(range(SHARDS), 0, SHARDS, len(accounts.ids))
    limit = int(AccountFlags.debits_must_not_exceed_credits) if limited else 0
    count = len(accounts.ids)
    none, counters = np.zeros(count, np.int64), np.zeros((4, count), np.int64)
    book.add_accounts(
        AccountColumns(
            accounts.ids,
            np.array(numbers),
            accounts.shards,
            none + 1,
            none + 1,
            np.where(np.arange(count) < SHARDS, 0, limit),
            none.astype(bool),
            none,
            counters,
            counters,
        )
    )
    return book


def make_flush(book: Book, rows: Rows, number: int) -> Copies:
    """Decide and encode one flush, as a worker does."""
    deciding = Decider(book, Batch([rows], [0]), [], 1)
    if deciding.advance() is not None:
        raise SystemExit("a flush of the baseline needs something looked up")
    decided = deciding.finish_batch()
    posted = post_decisions(book, [decided])
    book.begin_flush()
    book.end_flush()
    return copies_of([decided], posted, number)


def make_flushes(accounts: Accounts, rows: Rows, connections: int) -> list[list[Copies]]:
    """What each connection is to copy, flush by flush.

    The ids are those of the engine's run at a later time, so that they come in the same order,
    after all that is there; and the numbers of the accounts are others for each connection: all
    rows are new and none meets another.
    """
    books = [
        new_book(accounts, range(10**8 * (at + 1), 10**8 * (at + 1) + len(accounts.ids)))
        for at in range(connections)
    ]
    fresh = rows.copy()
    ids = np.ascontiguousarray(fresh["id"]).view(np.uint8).reshape(-1, 16).copy()
    ids[:, 0] += 1
    fresh["id"] = ids.view("V16").ravel()
    made: list[list[Copies]] = [[] for _ in range(connections)]
    for turn, start in enumerate(range(0, len(fresh), FLUSH)):
        at = turn % connections
        made[at].append(make_flush(books[at], fresh[start : start + FLUSH], (1 << 42) + turn))
    return made


async def copy_bare(dsn: str, flushes: Sequence[Sequence[Copies]]) -> float:
    """Copy all of it, a list a connection; returns the seconds taken."""
    connections = [await asyncpg.connect(dsn) for _ in flushes]

    async def copy_all(connection: asyncpg.Connection, mine: Sequence[Copies]) -> None:
        for copies in mine:
            await copy_flush(connection, copies)

    started = time.perf_counter()
    await asyncio.gather(*map(copy_all, connections, flushes))
    seconds = time.perf_counter() - started
    for connection in connections:
        await connection.close()
    return seconds


async def copy_flush(connection: asyncpg.Connection, copies: Copies) -> None:
    """Copy one flush in one transaction."""
    async with connection.transaction():
        for table, copy in copies:
            await send_copy(connection, table, copy)


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
