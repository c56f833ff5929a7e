"""What a ledger keeps, read from its tables by their documents."""

import uuid
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import asyncpg

from tests.chaos.requests import FLAGS, Bulk, Request

PENDING, POST, VOID = (
    FLAGS["pending"],
    FLAGS["post_pending_transfer"],
    FLAGS["void_pending_transfer"],
)
CLOSES: Final = {FLAGS["closing_debit"]: "debit", FLAGS["closing_credit"]: "credit"}
BALANCING: Final = FLAGS["balancing_debit"] | FLAGS["balancing_credit"]
TOP: Final = 2**63 - 1
PLACES: Final = 2**20
ROWS: Final = 20_000

SPENDS: Final = {
    21: "debit_account_not_found",
    22: "credit_account_not_found",
    25: "pending_transfer_not_found",
    54: "exceeds_credits",
    55: "exceeds_debits",
    65: "debit_account_already_closed",
    66: "credit_account_already_closed",
}
"""Refusals that spend their id."""

CREATED, FAILED = 0, 68
EXISTS: Final = {36, 37, 38, 39, 40, 41, 42, 43, 44, 45, 46, 67}


class Wrong(AssertionError):  # noqa: N818 - what it says
    """A promise does not hold."""


def wrong(claim: str, *what: Any) -> Wrong:
    """Say which claim, and where."""
    return Wrong(f"{claim}: {' '.join(map(str, what))}")


class Kept(NamedTuple):
    """A row of `spent`."""

    outcome: int
    debit: int
    credit: int
    amount: int
    flags: int
    pending_id: uuid.UUID | None
    expires_us: int | None
    number: int
    told: tuple[Any, ...]
    """Ledger, code, user data: what is only kept."""


class Told(NamedTuple):
    """A request as a producer wrote it down."""

    request: str
    shard: int
    transfers: list[Request] | Bulk
    attempts: int
    entry: tuple[int, int] | None
    outcomes: list[Any] | None


class Tables:
    """All that is kept, but postings, which are read as they come.

    Args:
        connection: To the ledger, within a snapshot.

    Attributes:
        kept: Ids that are spent.
        times: By the number of a flush, its time and worker.
        accounts: By id, number and flags.
        flags: By number.
        ended: By hold, how it ended, by what, and when.
    """

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection
        self.kept: dict[uuid.UUID, Kept] = {}
        self.times: dict[int, tuple[int, str]] = {}
        self.accounts: dict[uuid.UUID, tuple[int, list[str]]] = {}
        self.flags: dict[int, list[str]] = {}
        self.ended: dict[uuid.UUID, tuple[str, uuid.UUID | None, int]] = {}

    async def rows(self, query: str) -> Any:
        """Rows of a query as they come."""
        async for row in self._connection.cursor(query, prefetch=ROWS):
            yield row

    async def read(self) -> None:
        """Read all."""
        async for number, time, worker in self.rows(
            "SELECT number, (extract(epoch FROM time) * 1000000)::bigint, worker::text"
            " FROM ledger.flushes"
        ):
            self.times[number] = time, worker
        async for account_id, number, flags in self.rows(
            "SELECT id, number, flags FROM ledger.accounts"
        ):
            self.accounts[account_id] = number, flags
            self.flags[number] = flags
        names = {number: name for name, (number, _) in self.accounts.items()}
        async for row in self.rows(
            "SELECT s.id, s.outcome, s.debit_account, s.credit_account, s.amount, s.flags,"
            " s.pending_id, (extract(epoch FROM s.expires_at) * 1000000)::bigint, s.number,"
            " s.code, s.timeout, s.user_data_128, s.user_data_64, s.user_data_32"
            " FROM ledger.spent s"
        ):
            self.kept[row[0]] = Kept(*row[1:9], tuple(row[9:]))
            if row["number"] // PLACES not in self.times:
                raise wrong("whole", row[0], "is of no flush")
            if row["outcome"] == CREATED and not {row[2], row[3]} <= names.keys():
                raise wrong("whole", row[0], "is between accounts that are not there")
        async for hold_id, transfer_id, status, number in self.rows(
            "SELECT hold_id, transfer_id, status, number FROM ledger.resolutions"
        ):
            self.ended[hold_id] = status, transfer_id, self.times[number // PLACES][0]

    def time_of(self, kept: Kept) -> int:
        """When it was decided, in microseconds."""
        return self.times[kept.number // PLACES][0]


def legs_of(row: Any) -> Iterator[tuple[int, int, uuid.UUID, int, int]]:
    """The postings of a row, oldest first: version, number, transfer, amount, pending amount."""
    earlier = row["earlier_transfers"] or ()
    held = row["earlier_pending"] or [0] * len(earlier)
    amounts = row["earlier_amounts"] or ()
    if not len(earlier) == len(held) == len(amounts):
        raise wrong("whole", "an uneven run:", row)
    if row["run"] not in (0, len(earlier) + 1) and earlier:
        raise wrong("whole", "a run of another length:", row)
    for place, (transfer_id, amount, pending) in enumerate(
        zip(earlier, amounts, held, strict=True)
    ):
        back = len(earlier) - place
        yield row["version"] - back, row["number"] - back, transfer_id, amount, pending
    yield (
        row["version"],
        row["number"],
        row["transfer_id"],
        row["amount"],
        row["pending_amount"],
    )
