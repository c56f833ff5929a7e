"""Reading a large ledger: balances, the last 100 postings of accounts, and the 100 before them.

The ledger is filled with flushes as large as they get, decided and encoded by the engine's own
code and copied by two connections at once, as two workers do. One account is credited by a
twentieth of all transfers; the others are drawn alike. Then balances and histories are asked
of accounts that nobody has asked of before, through the views that everybody uses, and held
against what the transfers add up to and which came last. A further page begins at the last posting
of the one before.

Beside it the same 100 by the view of all postings, which takes every run of the account apart; and
what tables and indexes take on disk.

Not measured: a cold disk. What was just written is in the system's memory where it fits.

Example: python -m benchmarks.history --postings 100000000
"""

import argparse
import asyncio
import time
import uuid
from collections import deque
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import numpy as np

from benchmarks.baseline import FLUSH, Copies, copy_flush, make_flush, new_book
from benchmarks.report import Result, Row, Size, note, run
from benchmarks.serving import new_ledger
from benchmarks.workload import (
    SHARDS,
    Accounts,
    Transfers,
    make_accounts,
    make_transfers,
    ordered_ids,
)

SIZES = {
    "postings": Size(10_000_000, 400_000, "in the ledger"),
    "accounts": Size(100_000, 5_000, "with postings"),
    "samples": Size(200, 50, "accounts asked of"),
}
WORKERS = 2
HOT = SHARDS
LIMIT = 100
BEGAN = datetime(2026, 1, 1, tzinfo=UTC)

BALANCE = "SELECT credits_posted - debits_posted FROM ledger.balances WHERE account_id = $1"
HISTORY = f"SELECT transfer_id FROM ledger.history($1, {LIMIT})"  # noqa: S608 - a number of ours
LAST_SEEN = f"""
SELECT number FROM ledger.history($1, {LIMIT}) ORDER BY posted_at, number LIMIT 1
"""  # noqa: S608 - as above
FURTHER = f"SELECT transfer_id FROM ledger.history($1, {LIMIT}, NULL, $2)"  # noqa: S608 - as above
PLAIN_HISTORY = f"""
SELECT transfer_id FROM ledger.postings WHERE account_id = $1
ORDER BY number DESC LIMIT {LIMIT}
"""  # noqa: S608 - as above
SIZES_ON_DISK = """
SELECT relname AS name, pg_relation_size(oid) / 1000000 AS mb FROM pg_class
WHERE relnamespace = 'ledger'::regnamespace
  AND relname IN ('posted', 'posted_run', 'spent', 'spent_pkey')
ORDER BY 1
"""


class Watch:
    """What must be found of some accounts.

    Args:
        chosen: Their places.
        count: Of all accounts.
    """

    def __init__(self, chosen: np.ndarray, count: int) -> None:
        self._watched = np.zeros(count, bool)
        self._watched[chosen] = True
        self.balances = dict.fromkeys(chosen.tolist(), 0)
        self.last: dict[int, deque[bytes]] = {one: deque(maxlen=2 * LIMIT) for one in self.balances}

    def note(self, made: Transfers) -> None:
        """Take in a flush."""
        rows = np.flatnonzero(self._watched[made.debit] | self._watched[made.credit])
        columns = (made.debit, made.credit, made.moved, made.rows["id"])
        for debit, credit, amount, one in zip(*(c[rows].tolist() for c in columns), strict=True):
            for place, change in ((debit, -amount), (credit, amount)):
                if place in self.balances:
                    self.balances[place] += change
                    self.last[place].append(one)


def draw(accounts: Accounts, turn: int) -> Transfers:
    """A flush of transfers, whose ids were made after those of the flushes before."""
    rng = np.random.default_rng(turn)
    count = len(accounts.ids) - HOT - 1
    debit = HOT + 1 + rng.integers(0, count, FLUSH)
    credit = HOT + 1 + (debit - HOT + rng.integers(0, count - 1, FLUSH)) % count
    credit[rng.random(FLUSH) < 0.05] = HOT
    transfers = make_transfers(accounts, debit, credit, turn)
    transfers.rows["id"] = ordered_ids(FLUSH, rng, begin_ms=turn * 1000)
    return transfers


async def fill(dsn: str, accounts: Accounts, flushes: int, watch: Watch) -> None:
    """Write so many flushes, the next ones being made while some are copied."""
    pool = [
        await asyncpg.connect(dsn, server_settings={"synchronous_commit": "off"})
        for _ in range(WORKERS)
    ]
    numbers = {
        row["id"].bytes: row["number"]
        for row in await pool[0].fetch("SELECT id, number FROM ledger.accounts")
    }
    book = new_book(accounts, [numbers[one] for one in accounts.ids.tolist()])

    def make(first: int) -> list[Copies]:
        made = []
        for turn in range(first, min(first + WORKERS, flushes + 1)):
            transfers = draw(accounts, turn)
            watch.note(transfers)
            made.append(make_flush(book, transfers.rows, turn))
        return made

    worker = uuid.uuid4()
    await pool[0].executemany(
        "INSERT INTO ledger.flushes"
        " (worker, sequence, number, kind, digest, time, transfers, postings)"
        " VALUES ($1, $2, $2, 'flush', '', $3, $4, 2 * $4::integer)",
        [(worker, n, BEGAN + timedelta(seconds=n), FLUSH) for n in range(1, flushes + 1)],
    )
    ready = make(1)
    for first in range(1, flushes + 1, WORKERS):
        making = asyncio.create_task(asyncio.to_thread(make, first + WORKERS))
        await asyncio.gather(*map(copy_flush, pool, ready))
        ready = await making
        if first % (100 * WORKERS) == 1:
            note(f"{first * FLUSH * 2:,} postings")
    for table in ("posted", "spent", "accounts", "flushes"):
        await pool[0].execute(f"VACUUM ANALYZE ledger.{table}")
    for connection in pool:
        await connection.close()


class Questions:
    """Asks, and compares.

    Args:
        connection: For all of them.
        accounts: All accounts.
        watch: What must be found.
    """

    def __init__(self, connection: asyncpg.Connection, accounts: Accounts, watch: Watch) -> None:
        self._connection = connection
        self._accounts = accounts
        self._watch = watch
        self.rows: list[Row] = []
        self.faults: list[str] = []

    async def ask(
        self, what: str, query: str, asked: list[tuple[Any, ...]], expected: list[list[Any]]
    ) -> None:
        """Ask with some arguments after the other; the first are not counted: plans are made."""
        statement = await self._connection.prepare(query)
        taken, wrong = [], 0
        for arguments, want in zip(asked, expected, strict=True):
            began = time.perf_counter()
            rows = await statement.fetch(*arguments)
            taken.append((time.perf_counter() - began) * 1000)
            wrong += [row[0] for row in rows] != want
        if wrong:
            self.faults.append(f"{what}: {wrong} of {len(asked)} answers are wrong")
        median, most = np.quantile(taken[1:], (0.5, 0.99)).tolist()
        self.rows.append(
            {"what": what, "asked": len(taken) - 1, "median_ms": round(median, 3),
             "p99_ms": round(most, 3), "most_ms": round(max(taken[1:]), 3)}
        )  # fmt: skip

    async def ask_of(self, places: list[int], name: str = "") -> None:
        """Ask for balances and pages of accounts."""
        asked = self._asked(places)
        await self.ask(
            f"balance{name}", BALANCE, asked, [[self._watch.balances[p]] for p in places]
        )
        await self.ask(f"last {LIMIT} postings{name}", HISTORY, asked, self._pages(places, 0))
        seen = [(*one, await self._connection.fetchval(LAST_SEEN, *one)) for one in asked]
        await self.ask(f"the {LIMIT} before them{name}", FURTHER, seen, self._pages(places, 1))

    async def ask_view(self, places: list[int]) -> None:
        """Ask for pages by the view of all postings."""
        what = f"last {LIMIT} postings by the view"
        await self.ask(what, PLAIN_HISTORY, self._asked(places), self._pages(places, 0))

    def _asked(self, places: list[int]) -> list[tuple[Any, ...]]:
        return [(uuid.UUID(bytes=self._accounts.ids[place].tobytes()),) for place in places]

    def _pages(self, places: list[int], turn: int) -> list[list[uuid.UUID]]:
        within = slice(turn * LIMIT, (turn + 1) * LIMIT)
        newest = ([*self._watch.last[place]][::-1] for place in places)
        return [[uuid.UUID(bytes=one) for one in ids[within]] for ids in newest]


async def look(dsn: str, accounts: Accounts, watch: Watch) -> tuple[list[Row], list[str]]:
    """Ask, and compare."""
    connection = await asyncpg.connect(dsn)
    questions = Questions(connection, accounts, watch)
    others = [one for one in watch.balances if one != HOT]
    await questions.ask_of(others)
    await questions.ask_of([HOT] * len(others), ", hot account")
    await questions.ask_view(others)
    sizes = [dict(row) for row in await connection.fetch(SIZES_ON_DISK)]
    await connection.close()
    note(", ".join(f"{one['name']} {one['mb']:,} MB" for one in sizes))
    sized = [{"what": f"size of {one['name']}", "mb": one["mb"]} for one in sizes]
    return [*questions.rows, *sized], questions.faults


def measure(options: argparse.Namespace) -> Result:
    accounts = make_accounts(options.accounts + 1)
    flushes = max(WORKERS, options.postings // (2 * FLUSH))
    rng = np.random.default_rng(11)
    chosen = HOT + 1 + rng.choice(options.accounts, options.samples, replace=False)
    watch = Watch(np.r_[chosen, HOT], len(accounts.ids))
    with new_ledger(accounts) as ledger:
        began = time.perf_counter()
        asyncio.run(fill(ledger.dsn, accounts, flushes, watch))
        seconds = time.perf_counter() - began
        rows, faults = asyncio.run(look(ledger.dsn, accounts, watch))
        kept = asyncio.run(count(ledger.dsn))
    postings = flushes * 2 * FLUSH
    if kept != postings:
        faults.append(f"{kept:,} postings are kept, not {postings:,}")
    asked = [row for row in rows if "asked" in row]
    sizes = [row for row in rows if "mb" in row]
    summary = {"postings": postings, "fill_seconds": round(seconds, 1)}
    return Result(asked, faults, summary, {"On disk": sizes})


async def count(dsn: str) -> int:
    connection = await asyncpg.connect(dsn)
    kept: int = await connection.fetchval(
        "SELECT sum(coalesce(cardinality(earlier_transfers), 0) + 1) FROM ledger.posted"
    )
    await connection.close()
    return kept


def main(arguments: list[str] | None = None) -> None:
    run(__doc__, measure, SIZES, arguments=arguments)


if __name__ == "__main__":
    main()
