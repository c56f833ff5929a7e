"""The ledger in Postgres, as a worker uses it: loads, flushes, locked flushes, ownership."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Final
from uuid import UUID

import structlog

from engine.book.columns import AccountColumns
from engine.ledger.page import IdRecord
from engine.store.commit import commit_own
from engine.store.connections import Connect, Connections
from engine.store.driver import connect
from engine.store.driver_errors import translated
from engine.store.flush_writer import FlushWriter, prepare
from engine.store.ledger_checks import (
    check_clock,
    check_outcomes,
    check_sequences,
    check_strangers,
)
from engine.store.ownership import Ownership
from engine.store.records import accounts_of, mark_of, owned_of, record_of
from engine.store.rows import ExpiringHolds, Flush, OwnedShards, ShardProgress
from engine.store.waiting_rows import WaitingRows

UNUSABLE_LOGGED_MAX: Final = 1000
"""Of so many accounts it is said that they cannot be used."""

_log = structlog.get_logger()


class WorkerStore:
    """One worker's door to the ledger.

    Args:
        dsn: The Postgres server and database.
        worker: The worker's id, 16 bytes, new at every start.
        connect: How to reach the server.
    """

    def __init__(self, dsn: str, worker: bytes, connect: Connect = connect) -> None:
        self.worker = worker
        self._connections = Connections(dsn, worker, connect)
        self.ownership = Ownership(self._connections)
        self.waiting = WaitingRows(self._connections)
        self._writer = FlushWriter(self._connections)
        self._unusable: set[bytes] = set()
        """Accounts of which it was said that they cannot be used."""

    @property
    def lost_commits(self) -> Counter[str]:
        """Commits whose answer was lost, by what had become of them."""
        return self._connections.lost_commits

    async def open(self) -> None:
        """Connect, again where a connection was lost. Raises as `connect`."""
        await self._connections.open()

    def drop(self) -> None:
        """Cut all connections; whatever was under way in them is rolled back."""
        self._connections.drop()

    # Reading.

    async def load_records(self, ids: Sequence[bytes], *, locked: bool = False) -> list[IdRecord]:
        """What became of `ids`; those that are free are left out.

        Args:
            ids: Of transfers, 16 bytes each.
            locked: Read within the locked flush that is under way.

        Raises:
            TryAgainError: Postgres is out of reach.
        """
        rows = await self._connections.read("spent_by_id", ids, locked=locked)
        return [record_of(row) for row in rows]

    async def load_accounts(
        self,
        ids: Sequence[bytes],
        owned: Collection[int],
        writing_shard: int,
        *,
        locked: bool = False,
    ) -> AccountColumns:
        """Accounts with their newest counters; those that do not exist are left out.

        So are those that cannot be used, which is logged once, and `engine verify` names them.

        Args:
            ids: Of accounts, 16 bytes each.
            owned: Shards at home in which an account is written in its home stripe; what is
                said of the other stripes is of all of them there, else of the home alone.
            writing_shard: Through whose stripes the others are credited.
            locked: Read within the locked flush that is under way.
        """
        rows = await self._connections.read(
            "accounts_by_id", ids, list(owned), writing_shard, locked=locked
        )
        accounts, unusable = accounts_of(rows, owned)
        for account_id, why in unusable.items():
            if account_id not in self._unusable and len(self._unusable) < UNUSABLE_LOGGED_MAX:
                self._unusable.add(account_id)
                _log.error("account_not_usable", account=str(UUID(bytes=account_id)), reason=why)
        return accounts

    async def load_others(
        self, numbers: Sequence[int], *, locked: bool = False
    ) -> tuple[list[int], list[list[int]], int]:
        """The sums over the stripes of accounts other than their home stripes, as they are now.

        Returns:
            The numbers of the accounts, for each the four counters, and when the newest of all
            these was written.
        """
        rows = await self._connections.read("other_stripes", numbers, locked=locked)
        newest = max((row["others_time"] or 0 for row in rows), default=0)
        return [row["number"] for row in rows], [row["others"] for row in rows], newest

    async def load_expiring(
        self, since: dict[int, int], until: int, count: int, *, locked: bool = False
    ) -> ExpiringHolds:
        """Unresolved holds that lapse after `since` (by shard) and up to `until`.

        Args:
            since: By shard, from when on.
            until: Up to when.
            count: How many at most, but for those that lapse at the same time as the last.
            locked: Read within the locked flush that is under way.
        """
        rows = await self._connections.read(
            "expiring_holds", list(since), list(since.values()), until, count, locked=locked
        )
        holds = sorted((row["expires_at"], row["id"]) for row in rows)
        return ExpiringHolds(holds, until if len(holds) < count else holds[-1][0])

    async def load_ownership(self) -> OwnedShards:
        """The worker's last number, its shards, positions and what is frozen, in one snapshot."""
        rows = await self._connections.read("ownership", self.worker, locked=True)
        shards = {row["shard"]: owned_of(row) for row in rows if row["shard"] is not None}
        first = rows[0]
        return OwnedShards(
            first["sequence"],
            shards,
            await self.reserve_number(),
            mark_of(first),
            first["written"],
        )

    async def load_positions(self, shards: Collection[int]) -> dict[int, ShardProgress]:
        """How far other workers' shards got; within a locked flush."""
        return await self.ownership.read_positions(shards)

    async def shard_count(self) -> int:
        """Into how many shards the ledger is cut."""
        rows = await self._connections.read("shard_count")
        count: int = rows[0]["shard_count"]
        return count

    async def ledger_identity(self) -> bytes:
        """Which ledger this is: 16 bytes, made with it."""
        rows = await self._connections.read("ledger_identity")
        identity: bytes = rows[0]["identity"]
        return identity

    async def confirm(self) -> None:
        """See to it that all that was read is kept, by a synchronous standby too."""
        with translated(self._connections.where):
            await commit_own(self._connections, self._connections.writer)

    async def reserve_number(self) -> int:
        """A number for a flush, above that of everything written before."""
        return await self._connections.reserve_number()

    async def check_ledger(self, clock: Callable[[], int]) -> None:
        """See that the ledger can be worked on: at opening, and each `CHECK_SECONDS`.

        Args:
            clock: Of this worker, in microseconds since 1970.

        Raises:
            ConfigurationError: It cannot be; the message says what mends it.
            ClockError: This machine's clock is too far from that of Postgres.
        """
        await check_clock(self._connections.read, clock)
        await check_outcomes(self._connections.read)
        await check_sequences(self._connections.read)
        await check_strangers(self._connections.read)

    # Flushing.

    def prepare(self, flush: Flush) -> None:
        """Make a flush ready to be written, while another is under way: its rows as bytes."""
        prepare(flush)

    async def flush(self, flush: Flush) -> int:
        """Write a flush in one transaction, and return once it is durable.

        Returns:
            The number for the next flush.

        Raises:
            ChainMovedError: Another wrote in this worker's chain; nothing was written.
            ConflictError: A version, id or hold was written by another; nothing was written.
            ClockError: Its time is ahead of Postgres's clock; nothing was written.
            TryAgainError: Postgres is out of reach; whether the flush was committed may be
                unknown, and nothing of it may be answered.
        """
        return await self._writer.write_flush(flush)

    async def begin_locked_flush(self, shards: Collection[int]) -> set[bytes]:
        """Begin a locked flush: lock the owners of all these shards, in order.

        Returns:
            The owners other than this worker. Read on with `locked=True`; then end with
            `finish_locked_flush` or `abandon_locked_flush`.

        Raises:
            ConflictError: A lock could not be had in time.
            TryAgainError: Postgres is out of reach, or the owners kept changing.
        """
        return await self._writer.lock_owners(shards)

    async def finish_locked_flush(self, flush: Flush, lenders: Iterable[bytes]) -> int:
        """Write and commit a locked flush, in the own chain and in each lender's.

        Returns:
            The number for the next flush.
        """
        return await self._writer.write_locked_flush(flush, lenders)

    async def abandon_locked_flush(self) -> None:
        """Give the locks back; nothing is written."""
        await self._connections.roll_back()
