"""The ledger in Postgres, as a worker uses it: loads, flushes, locks, claims.

Two connections: one flushes, the other reads for the next batch meanwhile.
"""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Collection, Coroutine, Iterable, Sequence
from typing import Any, Final
from uuid import UUID

import asyncpg
import structlog

from engine.errors import InvariantBroken, TryAgainError
from engine.nouns import COUNTER_MAX, ID_ZERO, AccountFlags, Transfer
from engine.outcomes import Outcome
from engine.page import HoldStatus, Known
from engine.rows import AccountRow
from engine.store.connection import (
    STATEMENT_SECONDS_MAX,
    connect,
    is_connection_lost,
    statement,
    translated,
)
from engine.store.copying import FLUSH_SHIFT, Copy, copies_of
from engine.store.rows import Flush, Owned, Ownership, Position
from engine.store.small import is_small, small_arguments

NOBODY: Final = ID_ZERO
"""The worker that owns what nobody owns."""

COPY_BYTES: Final = 512 * 1024

SETTLE_SECONDS_MAX: Final = 30.0
LOCK_ROUNDS_MAX: Final = 20

_log = structlog.get_logger()


class PostgresStore:
    """One worker's door to the ledger.

    Args:
        dsn: The Postgres server and database.
        worker: The worker's id, 16 bytes, new at every start.
    """

    def __init__(self, dsn: str, worker: bytes) -> None:
        self.worker = worker
        self._dsn = dsn
        self._writer: asyncpg.Connection | None = None
        self._reader: asyncpg.Connection | None = None
        self._sql: dict[str, str] = {}
        self._reading = asyncio.Lock()

    # Opening and closing.

    async def open(self) -> None:
        """Connect, again where a connection was lost. Raises as `connect`."""
        name = f"engine {UUID(bytes=self.worker)}"
        if self._writer is None or self._writer.is_closed():
            # Without a time limit of its own, since none may end what commits.
            self._writer = await connect(self._dsn, name, statement_seconds_max=None)
        if self._reader is None or self._reader.is_closed():
            self._reader = await connect(self._dsn, f"{name} reading")

    def drop(self) -> None:
        """Cut both connections; whatever was under way in them is rolled back."""
        for connection in (self._writer, self._reader):
            if connection is not None:
                connection.terminate()
        self._writer = self._reader = None

    def _connection(self, *, locked: bool) -> asyncpg.Connection:
        connection = self._writer if locked else self._reader
        if connection is None:
            raise TryAgainError("the store is not open")
        return connection

    async def _read(self, name: str, *args: Any, locked: bool = False) -> list[asyncpg.Record]:
        """Rows of a named statement; the heartbeat shares the reading connection with loads."""
        with translated():
            if locked:
                rows: list[asyncpg.Record] = await self._connection(locked=True).fetch(
                    self._text(name), *args, timeout=STATEMENT_SECONDS_MAX
                )
            else:
                async with self._reading:
                    rows = await self._connection(locked=False).fetch(self._text(name), *args)
        return rows

    def _text(self, name: str) -> str:
        if name not in self._sql:
            self._sql[name] = statement(name)
        return self._sql[name]

    # Reading.

    async def load_known(self, ids: Sequence[bytes], *, locked: bool = False) -> list[Known]:
        """What became of `ids`; those that are free are left out.

        Args:
            ids: Of transfers, 16 bytes each.
            locked: Read within the locked flush that is under way.

        Raises:
            TryAgainError: Postgres is out of reach.
        """
        rows = await self._read("spent_by_id", ids, locked=locked)
        return [_known(row) for row in rows]

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
        rows = await self._read("accounts_by_id", ids, list(owned), writing_shard, locked=locked)
        return [_account(row) for row in rows]

    async def load_others(
        self, numbers: Sequence[int], *, locked: bool = False
    ) -> tuple[list[int], list[list[int]], int]:
        """The sums over the stripes of accounts other than their home stripes, as they are now.

        Returns:
            The numbers of the accounts, for each the four counters, and when the newest of all
            these was written.
        """
        rows = await self._read("other_stripes", numbers, locked=locked)
        newest = max((row["others_time"] or 0 for row in rows), default=0)
        return [row["number"] for row in rows], [row["others"] for row in rows], newest

    async def load_due(
        self, since: dict[int, int], until: int, *, locked: bool = False
    ) -> list[tuple[int, bytes]]:
        """Unresolved holds that lapse after `since` (by shard) and up to `until`.

        Returns:
            (expires_at, hold id) of each.
        """
        rows = await self._read(
            "holds_due", list(since), list(since.values()), until, locked=locked
        )
        return [(row["expires_at"], row["id"]) for row in rows]

    async def load_ownership(self) -> Ownership:
        """The worker's last number, its shards and positions, in one snapshot."""
        rows = await self._read("ownership", self.worker, locked=True)
        shards = {row["shard"]: _owned(row) for row in rows if row["shard"] is not None}
        return Ownership(rows[0]["sequence"], shards, await self.reserve_number())

    async def load_positions(self, shards: Collection[int]) -> dict[int, Owned]:
        """How far other workers' shards got; within a locked flush."""
        rows = await self._read("newest_positions", list(shards), locked=True)
        return {row["shard"]: _owned(row) for row in rows}

    async def shard_count(self) -> int:
        """Into how many shards the ledger is cut."""
        rows = await self._read("shard_count")
        count: int = rows[0]["shard_count"]
        return count

    # Flushing.

    async def flush(self, flush: Flush) -> int:
        """Write a flush in one transaction, and return once it is durable.

        Returns:
            The number for the next flush.

        Raises:
            LostOwnershipError: Another wrote in this worker's chain; nothing was written.
            ConflictError: A version, id or hold was written by another; nothing was written.
            TryAgainError: Postgres is out of reach; whether the flush was committed may be
                unknown, and nothing of it may be answered.
        """
        connection = self._connection(locked=True)
        with translated():
            if is_small(flush):
                return await self._flush_small(connection, flush)
            await connection.execute("BEGIN")
            try:
                async with asyncio.timeout(STATEMENT_SECONDS_MAX):
                    next_number = await self._write(connection, flush)
            except BaseException:
                await _roll_back(connection)
                raise
            await self._finish(connection, flush, connection.execute("COMMIT"))
        return next_number

    async def _flush_small(self, connection: asyncpg.Connection, flush: Flush) -> int:
        arguments = small_arguments(self.worker, flush, flush.number << FLUSH_SHIFT)
        text = self._text("flush_small")
        written = connection.fetchval(text, *arguments)
        number: int | None = await self._finish(connection, flush, written)
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
        connection = self._connection(locked=True)
        with translated():
            for _ in range(LOCK_ROUNDS_MAX):
                before = await self._owners(connection, shards)
                await connection.execute("BEGIN")
                try:
                    await connection.fetch(
                        self._text("lock_workers"), sorted({self.worker, *before})
                    )
                    # The next statement: one that waits for a lock reads what was before.
                    owners = await self._owners(connection, shards)
                    if owners <= before | {self.worker}:
                        return owners - {self.worker}
                except BaseException:
                    await _roll_back(connection)
                    raise
                await connection.execute("ROLLBACK")
        raise TryAgainError(f"the owners of shards {sorted(shards)} kept changing")

    async def reserve_number(self) -> int:
        """A number for a locked flush, above that of everything its lenders have written."""
        rows = await self._read("reserve_number", locked=True)
        number: int = rows[0]["number"]
        return number

    async def finish_locked(self, flush: Flush, lenders: Iterable[bytes]) -> int:
        """Write and commit a locked flush, in the own chain and in each lender's.

        Returns:
            The number for the next flush.
        """
        connection = self._connection(locked=True)
        with translated():
            try:
                next_number = await self._write(connection, flush)
                await connection.execute(
                    self._text("lend"), sorted(lenders), "lent", flush.time, flush.number
                )
            except BaseException:
                await _roll_back(connection)
                raise
            await self._finish(connection, flush, connection.execute("COMMIT"))
        return next_number

    async def abandon_locked(self) -> None:
        """Give the locks back; nothing is written."""
        if self._writer is not None:
            await _roll_back(self._writer)

    async def _owners(self, connection: asyncpg.Connection, shards: Collection[int]) -> set[bytes]:
        rows = await connection.fetch(self._text("owners"), list(shards))
        return {row["worker"] for row in rows}

    async def _write(self, connection: asyncpg.Connection, flush: Flush) -> int:
        next_number: int = await connection.fetchval(
            self._text("fence"),
            self.worker,
            flush.sequence,
            flush.number,
            flush.kind,
            flush.time,
            sum(len(one.spent) for one in flush.decided),
            sum(len(one.refused.requests) for one in flush.decided),
            len(flush.posted),
        )
        base = flush.number << FLUSH_SHIFT
        copies = flush.copies or copies_of(flush.decided, flush.posted, flush.number)
        for table, copy in copies:
            await _copy(connection, table, copy)
        resolutions = [one for decided in flush.decided for one in decided.resolutions]
        if resolutions:
            resolutions.sort(key=lambda one: one.hold_id)
            await connection.execute(
                self._text("resolve_holds"),
                [one.hold_id for one in resolutions],
                [one.transfer_id for one in resolutions],
                [one.status.name for one in resolutions],
                [base + place for place in range(len(resolutions))],
            )
        closings = {k: v for decided in flush.decided for k, v in decided.closings.items()}
        if closings:
            await connection.execute(
                self._text("close_accounts"), list(closings), list(closings.values())
            )
        for letter in flush.dead_letters:
            await connection.execute(
                self._text("bury"),
                letter.shard,
                letter.position.generation,
                letter.position.ms,
                letter.position.seq,
                letter.reason,
                list(letter.fields),
            )
        if flush.positions:
            positions = flush.positions.values()
            await connection.execute(
                self._text("move_positions"),
                flush.number,
                list(flush.positions),
                [p.generation for p in positions],
                [p.ms for p in positions],
                [p.seq for p in positions],
                flush.time,
            )
        return next_number

    async def _finish(
        self, connection: asyncpg.Connection, flush: Flush, commit: Coroutine[Any, Any, Any]
    ) -> Any:
        """Wait for what commits, without a time limit and shielded.

        A time limit or a cancellation would send a cancel, and a cancelled COMMIT looks like
        success where a synchronous standby has not confirmed it.

        Returns:
            What the statement returned; None where its fate had to be found out.
        """
        committing = asyncio.ensure_future(commit)
        try:
            return await asyncio.shield(committing)
        except asyncio.CancelledError:
            await asyncio.wait([committing])
            raise
        except Exception as error:
            if not is_connection_lost(error):
                raise
            _log.warning("commit_of_unknown_fate", sequence=flush.sequence, reason=str(error))
            if not await self._settle(connection, flush.sequence, flush.number):
                raise TryAgainError(f"flush {flush.sequence} was not committed: {error}") from error
            await self.open()
            return None

    async def _settle(self, lost: asyncpg.Connection, sequence: int, number: int) -> bool:
        """Find out whether a flush whose COMMIT was not answered is committed.

        The old backend is ended first and waited for: only then is absence final. Where the
        flush is there, something of our own is committed, which waits for a synchronous
        standby as the lost COMMIT may not have done.
        """
        pid = lost.get_server_pid()
        name = f"engine {UUID(bytes=self.worker)}"
        lost.terminate()
        deadline = asyncio.get_running_loop().time() + SETTLE_SECONDS_MAX
        while asyncio.get_running_loop().time() < deadline:
            try:
                fresh = await connect(self._dsn, name)
                try:
                    while await fresh.fetchval(  # noqa: ASYNC110 - it ends when it ends
                        self._text("end_backend"), pid, name
                    ):
                        await asyncio.sleep(0.01)
                    committed: bool = await fresh.fetchval(
                        self._text("find_flush"), self.worker, sequence, number
                    )
                    if committed:
                        await fresh.execute("SELECT pg_current_xact_id()")
                finally:
                    fresh.terminate()
            except Exception as error:
                if not isinstance(error, TryAgainError) and not is_connection_lost(error):
                    raise
                await asyncio.sleep(0.05)
            else:
                return committed
        raise TryAgainError(
            f"Postgres stayed away for {SETTLE_SECONDS_MAX:.0f} s after a COMMIT; flush {sequence} "
            "is of unknown fate and is not answered",
        )

    # Owning.

    async def register(self, lease_seconds: float) -> None:
        """Enter this worker, with an empty chain."""
        with translated():
            await self._connection(locked=True).execute(
                self._text("register_worker"),
                self.worker,
                socket.gethostname(),
                os.getpid(),
                lease_seconds,
            )

    async def beat(self, lease_seconds: float) -> None:
        """Stay alive for another lease, by Postgres's clock."""
        await self._read("beat", self.worker, lease_seconds)

    async def expire(self) -> None:
        """Let the worker's shards be taken at once: it stops."""
        await self._read("expire_worker", self.worker)

    async def claim(self, shards: Collection[int], time: int) -> list[int]:
        """Take over those of `shards` that are free or whose owner's heartbeat has expired.

        One transaction a former owner: both rows locked in order, tested again in the next
        statement, and a row in both chains, so that whatever the former owner still has
        under way fails.

        Returns:
            The shards that are this worker's now, by this call.
        """
        connection = self._connection(locked=True)
        taken: list[int] = []
        with translated():
            rows = await connection.fetch(self._text("owners"), list(shards))
            for owner in sorted({row["worker"] for row in rows} - {self.worker}):
                taken += await self._claim_from(connection, owner, shards, time)
        return taken

    async def _claim_from(
        self, connection: asyncpg.Connection, owner: bytes, shards: Collection[int], time: int
    ) -> list[int]:
        await connection.execute("BEGIN")
        try:
            await connection.fetch(self._text("lock_workers"), sorted([self.worker, owner]))
            rows = await connection.fetch(self._text("owners"), list(shards))
            taken = [r["shard"] for r in rows if r["worker"] == owner and not r["alive"]]
            if taken:
                sequence = await connection.fetchval(
                    "SELECT coalesce(max(sequence), 0) FROM ledger.flushes WHERE worker = $1",
                    self.worker,
                )
                number = await connection.fetchval(self._text("reserve_number"))
                await connection.execute(
                    self._text("fence"), self.worker, sequence + 1, number, "claim", time, 0, 0, 0
                )
                await connection.execute(self._text("lend"), [owner], "claim", time, number)
                await connection.execute(self._text("set_owner"), taken, self.worker)
            await connection.execute("COMMIT")
        except BaseException:
            await _roll_back(connection)
            raise
        return taken

    async def release(self, time: int) -> list[int]:
        """Give all shards back, so that others need not wait for the heartbeat to expire.

        Returns:
            The shards that are nobody's now.
        """
        connection = self._connection(locked=True)
        with translated():
            await connection.execute("BEGIN")
            try:
                await connection.fetch(self._text("lock_workers"), sorted([self.worker, NOBODY]))
                rows = await connection.fetch(self._text("owned_by"), self.worker)
                if rows:
                    await connection.execute(
                        self._text("lend"), sorted([self.worker, NOBODY]), "release", time, None
                    )
                    await connection.execute(
                        self._text("set_owner"), [row["shard"] for row in rows], NOBODY
                    )
                await connection.execute("COMMIT")
            except BaseException:
                await _roll_back(connection)
                raise
        return [row["shard"] for row in rows]


async def _copy(connection: asyncpg.Connection, table: str, copy: Copy) -> None:
    await connection.copy_to_table(
        table,
        schema_name="ledger",
        columns=copy.columns,
        format="binary",
        source=_pieces(copy.data),
    )


async def _pieces(data: bytes) -> AsyncIterator[memoryview]:
    """Data in pieces, as the driver wants it."""
    view = memoryview(data)
    for start in range(0, len(view), COPY_BYTES):
        yield view[start : start + COPY_BYTES]


async def _roll_back(connection: asyncpg.Connection) -> None:
    """Roll back; where even that cannot be sent, cut the connection, which does it too."""
    try:
        await connection.execute("ROLLBACK", timeout=5)
    except Exception:  # noqa: BLE001 - the error that led here is being raised
        connection.terminate()


def _account(row: asyncpg.Record) -> AccountRow:
    return AccountRow(
        row["id"],
        row["number"],
        row["shard"],
        row["ledger"],
        row["code"],
        sum(int(AccountFlags[name]) for name in row["flags"]),
        row["closed"],
        row["version"],
        row["own"],
        row["others"],
        row["others_time"] or 0,
    )


def _known(row: asyncpg.Record) -> Known:
    outcome = Outcome(row["outcome"])
    created = outcome is Outcome.created
    status = HoldStatus[row["status"]] if row["status"] else HoldStatus.none
    if created and row["flags"] & 2 and status is HoldStatus.none:
        status = HoldStatus.pending
    if created and not 0 <= row["amount"] <= COUNTER_MAX:
        raise InvariantBroken(f"transfer {row['id'].hex()} has an amount out of range")
    transfer = Transfer(
        id=row["id"],
        debit_account_id=row["debit_account_id"] or ID_ZERO,
        credit_account_id=row["credit_account_id"] or ID_ZERO,
        amount=row["amount"] or 0,
        pending_id=row["pending_id"] or ID_ZERO,
        user_data_128=row["user_data_128"] or ID_ZERO,
        user_data_64=(row["user_data_64"] or 0) % 2**64,
        user_data_32=row["user_data_32"] or 0,
        timeout=row["timeout"] or 0,
        ledger=row["ledger"] or 0,
        code=row["code"] or 0,
        flags=row["flags"],
    )
    return Known(outcome, transfer, row["shard"], status=status, expires_at=row["expires_at"] or 0)


def _owned(row: asyncpg.Record) -> Owned:
    if row["time"] is None:
        return Owned(Position(), 0)
    return Owned(Position(row["generation"], row["ms"], row["seq"]), row["time"])
