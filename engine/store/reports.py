"""What people ask the ledger: read only, in words and times that a person reads."""

import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final, Literal, TypeVar
from uuid import UUID

import asyncpg
import msgspec

from engine.errors import InputError
from engine.store.driver import connect
from engine.store.driver_errors import translated
from engine.store.freezes import Frozen
from engine.store.statements import statement

OVERDUE_SECONDS: Final = 2.0
"""A hold that is unresolved so long after its time is overdue."""

PACE_SECONDS: Final = 10.0
"""Over how long rates and latency are taken."""

TIME_MAX: Final = 4_102_444_800 * 1_000_000
"""The year 2100, in microseconds since 1970: after every posting."""

_T = TypeVar("_T")


class ServerReport(msgspec.Struct, frozen=True):
    """Postgres, and what stands aside in the ledger."""

    version: str
    shard_count: int
    migration: int
    dead_letters: int
    """Those that nobody dealt with."""
    holds_overdue: int
    holds_pending: int
    """Those with a timeout that wait to be resolved; 100,000 means that many or more."""
    transfers_in_10_seconds: int


class ShardReport(msgspec.Struct, frozen=True):
    """A shard and its owner; `worker` is None where nobody owns it."""

    shard: int
    worker: str | None
    alive: bool
    host: str | None
    process: int | None
    expired_seconds: float | None
    generation: int
    ms: int
    seq: int
    position: str
    decided_at: str | None
    transfers_per_second: float
    locked_flushes: int
    """Of its owner, over all of its shards, in the last minute."""
    target: str | None
    """The worker that it is to go to."""
    frozen_by: str | None = None
    """By whom it is frozen and why: its stream is not read."""
    parked: int = 0
    """Entries of it that wait for a thaw, off its stream."""
    answer_seconds: float | None = None
    """The slowest answer lately; None where there was none."""


class WorkerReport(msgspec.Struct, frozen=True):
    """A worker that is alive, that waits, or that is dead and still owns shards."""

    worker: str
    host: str
    process: int
    started_at: str
    alive: bool
    lease_seconds_left: float
    shards: list[int]
    pinned: list[int] | None
    """Those it was told to work on; None where it takes its share."""
    drained: bool
    waits_for: str | None
    """What it said that it waits for, last; None where it works, or is dead."""
    waits_seconds: float | None
    last_flush_at: str | None
    in_postgres: str | None = None
    """What its connection waits for within Postgres, at this moment."""

    @property
    def state(self) -> Literal["alive", "waiting", "dead"]:
        """Whether it works, lives and waits for a server, or is no more."""
        if self.alive:
            return "alive"
        return "dead" if self.waits_for is None else "waiting"


class AccountReport(msgspec.Struct, frozen=True):
    """An account as it was created, and whether it is closed."""

    id: str
    name: str | None
    ledger: int
    code: int
    flags: list[str]
    shard: int
    closed: bool
    user_data_128: str | None
    user_data_64: int
    user_data_32: int
    created_at: str

    @property
    def id_bytes(self) -> bytes:
        """Its id as 16 bytes."""
        return UUID(self.id).bytes


class BalanceReport(msgspec.Struct, frozen=True):
    """The four counters of an account. Amounts in minor units."""

    account_id: str
    name: str | None
    ledger: int
    debits_pending: int
    debits_posted: int
    credits_pending: int
    credits_posted: int
    closed: bool

    @property
    def balance(self) -> int:
        """What is posted: credits less debits."""
        return self.credits_posted - self.debits_posted


class PostingReport(msgspec.Struct, frozen=True):
    """One leg as the owner of the account sees it; the counters are those of its stripe.

    `number` is its own in the whole ledger.
    """

    posted_at: str
    transfer_id: str
    other_account_id: str
    other_name: str | None
    amount: int
    pending_amount: int
    code: int
    flags: list[str]
    shard: int
    version: int
    debits_pending: int
    debits_posted: int
    credits_pending: int
    credits_posted: int
    number: int


class Pace(msgspec.Struct, frozen=True):
    """How fast flushes were decided in the last seconds."""

    created_per_second: float
    declined_per_second: float
    flushes_per_second: float
    locked_per_second: float
    decided_seconds_median: float | None
    """From when Redis took an entry until it was decided, of the newest of each flush and shard."""
    decided_seconds_p99: float | None


class PaceSecond(msgspec.Struct, frozen=True):
    """What was decided within a second."""

    ago: int
    """0 for the one that is not over, 1 for the one before."""
    created: int
    declined: int


class PlanReport(msgspec.Struct, frozen=True):
    """A plan that was applied, and how far its moves got."""

    plan: str
    applied_by: str
    state: str
    """applying, done, failed or aborted."""
    began_at: str
    ended_at: str | None
    why: str | None
    moving: int
    moved: int
    not_moved: int
    pause_seconds_max: float | None
    """How long a shard stood still at most."""


class Reports:
    """Questions to one connection; use `open_reports`."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def shard_count(self) -> int:
        """Into how many shards the ledger is cut."""
        with translated():
            count: int = await self._connection.fetchval(statement("shard_count"))
        return count

    async def server(self) -> ServerReport:
        """Postgres and the ledger as a whole."""
        [report] = await self._rows(ServerReport, "report_server", OVERDUE_SECONDS)
        return report

    async def pace(self) -> Pace:
        """How fast it goes."""
        [pace] = await self._rows(Pace, "report_pace", PACE_SECONDS)
        return pace

    async def pace_by_second(self, seconds: float) -> list[PaceSecond]:
        """What was decided in each of the last seconds, the oldest first."""
        return await self._rows(PaceSecond, "report_pace_by_second", seconds)

    async def plans(self, limit: int) -> list[PlanReport]:
        """The plans that were applied last, the newest first."""
        return await self._rows(PlanReport, "report_plans", limit)

    async def shards(self) -> list[ShardReport]:
        """All shards, in their order."""
        return await self._rows(ShardReport, "report_shards")

    async def freezes(self) -> list[Frozen]:
        """What is frozen."""
        return await self._rows(Frozen, "frozen_now")

    async def workers(self) -> list[WorkerReport]:
        """All workers of interest, the oldest first."""
        return await self._rows(WorkerReport, "report_workers")

    async def accounts(self, limit: int) -> list[AccountReport]:
        """The first accounts, in the order of their creation."""
        return await self._rows(AccountReport, "report_accounts", limit)

    async def find_accounts(
        self, ids: Sequence[bytes], names: Sequence[str]
    ) -> list[AccountReport]:
        """Accounts of these ids (16 bytes) or names, in no order; names need not be unique."""
        return await self._rows(AccountReport, "report_named", ids, names)

    async def balances(self, ids: Sequence[bytes]) -> list[BalanceReport]:
        """The balances of accounts, in the order asked for; unknown ids are left out."""
        return await self._rows(BalanceReport, "report_balances", ids)

    async def history(
        self,
        account_id: bytes,
        limit: int,
        before: int = TIME_MAX,
        before_number: int | None = None,
    ) -> list[PostingReport]:
        """The last postings of an account, newest first.

        Args:
            account_id: 16 bytes.
            limit: At most as many.
            before: Posted before it, in microseconds since 1970.
            before_number: Before the posting of this number.

        Raises:
            InputError: There is no posting of that number.
        """
        try:
            return await self._rows(
                PostingReport, "report_history", account_id, limit, before, before_number
            )
        except asyncpg.InvalidParameterValueError as error:
            raise InputError(str(error)) from error

    async def decided(self) -> tuple[int, int]:
        """How many transfers were created, and how many refusals spent their id."""
        with translated():
            row = await self._connection.fetchrow(statement("report_progress"))
        return row["created"], row["declined"]

    async def _rows(self, report: type[_T], name: str, *arguments: Any) -> list[_T]:
        with translated():
            rows = await self._connection.fetch(statement(name), *arguments)
        # Not strict: a number of 64 bits is text here.
        return [msgspec.convert(dict(row), report, strict=False) for row in rows]


@contextlib.asynccontextmanager
async def open_reports(dsn: str) -> AsyncIterator[Reports]:
    """Connect for the length of a block.

    Raises:
        TryAgainError: Postgres is out of reach.
        ConfigurationError: It is not as the ledger needs it.
    """
    connection = await connect(dsn, "engine reports")
    try:
        yield Reports(connection)
    finally:
        connection.terminate()
