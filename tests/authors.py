"""Flushes written row by row into the tables, and the histories that must come of them."""

import itertools
import random
import uuid
from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

import asyncpg

from tests.ledgers import Ledger

COUNTERS: Final = ("debits_pending", "debits_posted", "credits_pending", "credits_posted")
COLUMNS: Final = ("number", "stripe", "version", "amount", "pending_amount", *COUNTERS,
                  "transfer_id", "run")  # fmt: skip
EARLIER: Final = ("earlier_transfers", "earlier_amounts", "earlier_pending", "debit")
RUN_POSTINGS_MAX: Final = 48
BEGAN: Final = datetime(2026, 1, 1, tzinfo=UTC)
WORKERS: Final = (uuid.UUID(int=7), uuid.UUID(int=5), uuid.UUID(int=6))

Row = dict[str, Any]


class Written(NamedTuple):
    """A flush: its row in `flushes`, and what it copies."""

    flush: Row
    spent: list[Row]
    posted: list[Row]


def pack(rows: Sequence[Row], debits: Collection[uuid.UUID]) -> list[Row]:
    """Rows of one posting each as rows of whole runs, given which transfers are debits."""
    packed = []
    for _, neighbours in itertools.groupby(rows, key=lambda row: row["stripe"]):
        of_stripe = list(neighbours)
        for start in range(0, len(of_stripe), RUN_POSTINGS_MAX):
            run = of_stripe[start : start + RUN_POSTINGS_MAX]
            *earlier, last = run
            row = last | dict.fromkeys(EARLIER) | {"run": len(run)}
            if earlier:
                row["earlier_transfers"] = [each["transfer_id"] for each in earlier]
                row["earlier_amounts"] = [each["amount"] for each in earlier]
            if earlier and any(each["pending_amount"] for each in run):
                row["earlier_pending"] = [each["pending_amount"] for each in earlier]
                row["debit"] = [each["transfer_id"] in debits for each in run]
            packed.append(row)
    return packed


class Author:
    """Makes the rows of flushes as workers write them, and keeps what every history must be.

    Args:
        accounts: Numbers by id.
    """

    def __init__(self, accounts: dict[uuid.UUID, int]) -> None:
        self.accounts = accounts
        self.histories: dict[int, list[tuple[Any, ...]]] = {n: [] for n in accounts.values()}
        self._ids = {number: one for one, number in accounts.items()}
        self._newest: dict[int, Row] = {}
        self._flushes = 0
        self._sequences = dict.fromkeys(WORKERS, 0)
        self._draw = random.Random(5)
        self._debits: set[uuid.UUID] = set()

    def write(
        self, worker: uuid.UUID, seconds: int, runs: dict[int, int], *, packed: bool = False
    ) -> Written:
        """A flush with runs of some lengths, by stripe. Its debits and credits are of one account;
        those of the other side, which are of no interest here, are left out.

        Args:
            worker: Whose it is.
            seconds: When, after `BEGAN`.
            runs: How many postings, by stripe.
            packed: Whether a run is one row, as they are written today, or a row a posting.
        """
        self._flushes += 1
        self._sequences[worker] += 1
        time = BEGAN + timedelta(seconds=seconds)
        flush = {"worker": worker, "sequence": self._sequences[worker], "kind": "flush",
                 "digest": bytes(32),
                 "number": self._flushes, "time": time}  # fmt: skip
        written = Written(flush, [], [])
        for stripe, length in sorted(runs.items()):
            for place in range(length):
                self._add(written, stripe, length if place == length - 1 else 0)
        return written._replace(posted=pack(written.posted, self._debits)) if packed else written

    def _add(self, written: Written, stripe: int, run: int) -> None:
        account = stripe >> 10
        other = self._draw.choice([n for n in self._ids if n != account])
        amount = self._draw.choice([-1, 1]) * self._draw.randint(0, 99)
        pending = self._draw.choice([0] * 9 + [-5, 5])
        row = dict(self._newest.get(stripe) or dict.fromkeys(COLUMNS, 0) | {"stripe": stripe})
        row["number"] = (written.flush["number"] << 20) + len(written.posted)
        row["version"] += 1
        is_debit = amount < 0
        row["debits_posted" if is_debit else "credits_posted"] += abs(amount)
        side, sign = ("debits_pending", -1) if is_debit else ("credits_pending", 1)
        if row[side] + sign * pending < 0:
            pending = 0
        row[side] += sign * pending
        row |= {
            "amount": amount,
            "pending_amount": pending,
            "transfer_id": uuid.UUID(int=self._draw.getrandbits(128)),
        }
        self._newest[stripe] = row
        if is_debit:
            self._debits.add(row["transfer_id"])
        written.posted.append(row | {"run": run})
        debit, credit = (account, other) if is_debit else (other, account)
        written.spent.append({"id": row["transfer_id"], "number": row["number"],
                              "debit_account": debit, "credit_account": credit,
                              "amount": abs(amount), "code": 1, "flags": 0, "shard": 0,
                              "outcome": 0})  # fmt: skip
        found = (written.flush["time"], written.flush["worker"], row["number"],
                 row["transfer_id"], self._ids[other], amount, stripe & 1023, row["version"],
                 *(row[name] for name in COUNTERS))  # fmt: skip
        self.histories[account].append(found)

    def history(self, account_id: uuid.UUID) -> list[tuple[Any, ...]]:
        """All of it, the newest first, as `read` returns it."""
        of_account = self.histories[self.accounts[account_id]]
        return [(row[0], *row[2:]) for row in sorted(of_account, reverse=True)]


async def new_accounts(ledger: Ledger, count: int) -> dict[uuid.UUID, int]:
    rows = await ledger.sql(
        "INSERT INTO ledger.accounts (id, ledger, code)"
        " SELECT gen_random_uuid(), 1, 1 FROM generate_series(1, $1) RETURNING id, number",
        count,
    )
    return {uuid.UUID(bytes=row["id"].bytes): row["number"] for row in rows}


async def copy(connection: asyncpg.Connection, table: str, rows: Sequence[Row]) -> None:
    await connection.copy_records_to_table(
        table, schema_name="ledger", columns=list(rows[0]), records=[[*r.values()] for r in rows]
    )


async def copy_flush(connection: asyncpg.Connection, written: Written) -> None:
    async with connection.transaction():
        await copy(connection, "flushes", [written.flush])
        await copy(connection, "spent", written.spent)
        await copy(connection, "posted", written.posted)
