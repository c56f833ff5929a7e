"""The ledger in Postgres, as a worker uses it: loads, flushes, locked flushes, ownership."""

import asyncio
from collections.abc import Collection, Coroutine, Iterable, Sequence
from typing import Any, Final

import asyncpg

from engine.book.columns import AccountRow
from engine.errors import TryAgainError
from engine.ledger.page import IdRecord
from engine.store.assumptions import check_assumptions
from engine.store.commit import commit_own, finish
from engine.store.connections import Connect, Connections
from engine.store.copy import FLUSH_SHIFT, copies_of, send_copy
from engine.store.driver import STATEMENT_SECONDS_MAX, connect, translated
from engine.store.ownership import Ownership
from engine.store.records import account_of, owned_of, record_of
from engine.store.rows import ExpiringHolds, Flush, OwnedShards, ShardProgress, dead_letter_columns
from engine.store.small_flush import is_small, small_arguments

LOCK_ROUNDS_MAX: Final = 20


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
    ) -> list[AccountRow]:
        """Accounts with their newest counters; those that do not exist are left out.

        Args:
            ids: Of accounts, 16 bytes each.
            owned: Shards at home in which an account is written in its home stripe.
            writing_shard: Through whose stripes the others are credited.
            locked: Read within the locked flush that is under way.
        """
        rows = await self._connections.read(
            "accounts_by_id", ids, list(owned), writing_shard, locked=locked
        )
        return [account_of(row) for row in rows]

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
        """The worker's last number, its shards and positions, in one snapshot."""
        rows = await self._connections.read("ownership", self.worker, locked=True)
        shards = {row["shard"]: owned_of(row) for row in rows if row["shard"] is not None}
        return OwnedShards(rows[0]["sequence"], shards, await self.reserve_number())

    async def load_positions(self, shards: Collection[int]) -> dict[int, ShardProgress]:
        """How far other workers' shards got; within a locked flush."""
        return await self.ownership.positions(shards)

    async def shard_count(self) -> int:
        """Into how many shards the ledger is cut."""
        rows = await self._connections.read("shard_count")
        count: int = rows[0]["shard_count"]
        return count

    # Flushing.

    async def flush(self, flush: Flush) -> int:
        """Write a flush in one transaction, and return once it is durable.

        Returns:
            The number for the next flush.

        Raises:
            ChainMovedError: Another wrote in this worker's chain; nothing was written.
            ConflictError: A version, id or hold was written by another; nothing was written.
            TryAgainError: Postgres is out of reach; whether the flush was committed may be
                unknown, and nothing of it may be answered.
        """
        connection = self._connections.writer
        with translated(), self._connections.waiting():
            if is_small(flush):
                return await self._flush_small(connection, flush)
            await connection.execute("BEGIN")
            try:
                async with asyncio.timeout(STATEMENT_SECONDS_MAX):
                    next_number = await self._write(connection, flush)
                    await self._look_again(flush)
            except BaseException:
                await self._connections.roll_back()
                raise
            await self._commit(flush, connection.execute("COMMIT"))
        return next_number

    async def _flush_small(self, connection: asyncpg.Connection, flush: Flush) -> int:
        arguments = small_arguments(self.worker, flush, flush.number << FLUSH_SHIFT)
        text = self._connections.text("flush_small")
        written = connection.fetchval(text, *arguments)
        number: int | None = await self._commit(flush, written)
        return await self.reserve_number() if number is None else number

    async def begin_locked(self, shards: Collection[int]) -> set[bytes]:
        """Begin a locked flush: lock the owners of all these shards, in order.

        Returns:
            The owners other than this worker. Read on with `locked=True`; then end with
            `finish_locked` or `abandon_locked`.

        Raises:
            ConflictError: A lock could not be had in time.
            TryAgainError: Postgres is out of reach, or the owners kept changing.
        """
        connection = self._connections.writer
        with translated(), self._connections.waiting():
            for _ in range(LOCK_ROUNDS_MAX):
                before = await self._owners(shards)
                await connection.execute("BEGIN")
                try:
                    await self._connections.write("lock_workers", sorted({self.worker, *before}))
                    # The next statement: one that waits for a lock reads what was before.
                    owners = await self._owners(shards)
                    if owners <= before | {self.worker}:
                        return owners - {self.worker}
                except BaseException:
                    await self._connections.roll_back()
                    raise
                await connection.execute("ROLLBACK")
        raise TryAgainError(f"the owners of shards {sorted(shards)} kept changing")

    async def confirm(self) -> None:
        """See to it that all that was read is kept, by a synchronous standby too."""
        with translated():
            await commit_own(self._connections, self._connections.writer)

    async def reserve_number(self) -> int:
        """A number for a flush, above that of everything written before."""
        return await self._connections.reserve_number()

    async def finish_locked(self, flush: Flush, lenders: Iterable[bytes]) -> int:
        """Write and commit a locked flush, in the own chain and in each lender's.

        Returns:
            The number for the next flush.
        """
        connection = self._connections.writer
        with translated(), self._connections.waiting():
            try:
                next_number = await self._write(connection, flush)
                lent = sorted(lenders), "lent", flush.time, flush.number
                await self._connections.write("append_lent_flush", *lent)
                await self._look_again(flush)
            except BaseException:
                await self._connections.roll_back()
                raise
            await self._commit(flush, connection.execute("COMMIT"))
        return next_number

    async def abandon_locked(self) -> None:
        """Give the locks back; nothing is written."""
        await self._connections.roll_back()

    async def _commit(self, flush: Flush, commit: Coroutine[Any, Any, Any]) -> Any:
        return await finish(self._connections, flush.sequence, flush.number, commit)

    async def _owners(self, shards: Collection[int]) -> set[bytes]:
        rows = await self._connections.write("owners", list(shards))
        return {row["worker"] for row in rows}

    async def _write(self, connection: asyncpg.Connection, flush: Flush) -> int:
        next_number: int = await connection.fetchval(
            self._connections.text("fence"),
            self.worker,
            flush.sequence,
            flush.number,
            flush.kind,
            flush.time,
            sum(len(one.spent) for one in flush.decided),
            sum(len(one.refused.requests) for one in flush.decided),
            len(flush.posted),
        )
        copies = flush.copies or copies_of(flush.decided, flush.posted, flush.number)
        for table, copy in copies:
            await send_copy(connection, table, copy)
        closings = {k: v for decided in flush.decided for k, v in decided.closings.items()}
        if closings:
            await self._connections.write("close_accounts", list(closings), list(closings.values()))
        if flush.dead_letters:
            await self._connections.write(
                "insert_dead_letters", *dead_letter_columns(flush.dead_letters)
            )
        if flush.positions:
            positions = flush.positions.values()
            await self._connections.write(
                "move_positions",
                flush.number,
                list(flush.positions),
                [p.generation for p in positions],
                [p.ms for p in positions],
                [p.seq for p in positions],
                [flush.resolved_until[shard] for shard in flush.positions],
            )
        return next_number

    async def _look_again(self, flush: Flush) -> None:
        """The last act before COMMIT where funds were wanting or a balance was moved."""
        if flush.has_assumptions:
            await check_assumptions(self._connections, flush.decided)
