"""Writing flushes: by COPY, in one statement where they are small, or with others locked.

Each is one transaction: the fence first, which is the next number of the worker's chain; then
the rows; last a look at what was assumed; then COMMIT, which `commit` sees to its end.
"""

from collections.abc import Collection, Iterable, Sequence
from typing import Final

import asyncpg
from msgspec.structs import astuple, replace

from engine.book.content import Letter, content_of, digest_of, first_used
from engine.errors import ConfigurationError, TryAgainError
from engine.store.assumptions import check_assumptions
from engine.store.commit import commit_and_settle
from engine.store.connections import Connections, bounded
from engine.store.copy import send_copy
from engine.store.driver_errors import translated
from engine.store.flush_copies import FLUSH_SHIFT, copies_of
from engine.store.rows import DeadLetter, Flush
from engine.store.single_flush import Seal, is_single, write_single
from engine.store.small_flush import is_small, small_arguments
from engine.store.waiting_rows import parked_of, write_waiting

LOCK_ROUNDS_MAX: Final = 20


def prepare(flush: Flush) -> None:
    """Make the digest of a flush, and lay out its rows, unless one statement does for it."""
    flush.digest = _digest_of(flush)
    if not is_small(flush):
        flush.copies = copies_of(flush.decided, flush.posted, flush.number)


def _digest_of(flush: Flush) -> bytes:
    """Of all that is written: its dead letters are those that are not there already."""
    letters = [Letter(*astuple(letter)) for letter in flush.dead_letters]
    content = content_of(
        flush.decided, flush.posted, flush.positions, flush.resolved_until, letters
    )
    if flush.waiting or flush.released:
        content = content._replace(parked=parked_of(flush.waiting), released=flush.released)
    return digest_of(content)


GENERATION_STEP: Final = 4
"""From one generation of a stream to that which it has when it is begun anew."""


class FlushWriter:
    """Writes what one worker decided.

    Args:
        connections: The worker's.
    """

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._newest_number = 0

    def _check_number(self, number: int) -> None:
        """Raises ConfigurationError where numbers went back: rows would be out of their order."""
        if number < self._newest_number:
            raise ConfigurationError(
                "the sequence ledger.flush_numbers went back, as where somebody restarted it: "
                f"it gave {number} after {self._newest_number}; set it on"
            )
        self._newest_number = number

    async def write_flush(self, flush: Flush) -> int:
        """As `WorkerStore.flush`."""
        connection = self._connections.writer
        with translated(self._connections.where), self._connections.waiting():
            if is_small(flush):
                return await self._write_small(connection, flush)
            try:
                async with bounded(f"writing flush {flush.sequence}"):
                    await connection.execute("BEGIN")
                    next_number = await self._write(connection, flush)
                    await self._check_assumptions(flush)
            except BaseException:
                await self._connections.roll_back()
                raise
            await commit_and_settle(
                self._connections, flush.sequence, flush.number, connection.execute("COMMIT")
            )
        return next_number

    async def lock_owners(self, shards: Collection[int]) -> set[bytes]:
        """As `WorkerStore.begin_locked_flush`."""
        connection = self._connections.writer
        me = self._connections.worker
        with translated(self._connections.where), self._connections.waiting():
            for _ in range(LOCK_ROUNDS_MAX):
                try:
                    async with bounded(f"locking the owners of shards {sorted(shards)}"):
                        before = await self._owners(shards)
                        await connection.execute("BEGIN")
                        await self._connections.write("lock_workers", sorted({me, *before}))
                        # The next statement: one that waits for a lock reads what was before.
                        owners = await self._owners(shards)
                        if owners <= before | {me}:
                            return owners - {me}
                        await connection.execute("ROLLBACK")
                except BaseException:
                    await self._connections.roll_back()
                    raise
        raise TryAgainError(f"the owners of shards {sorted(shards)} kept changing")

    async def write_locked_flush(self, flush: Flush, lenders: Iterable[bytes]) -> int:
        """As `WorkerStore.finish_locked_flush`."""
        connection = self._connections.writer
        with translated(self._connections.where), self._connections.waiting():
            try:
                async with bounded(f"writing locked flush {flush.sequence}"):
                    next_number = await self._write(connection, flush)
                    lent = sorted(lenders), "lent", flush.time, flush.number
                    await self._connections.write_rows(
                        "ledger.flushes", len(lent[0]), "append_lent_flush", *lent
                    )
                    await self._check_assumptions(flush)
            except BaseException:
                await self._connections.roll_back()
                raise
            await commit_and_settle(
                self._connections, flush.sequence, flush.number, connection.execute("COMMIT")
            )
        return next_number

    async def _write_small(self, connection: asyncpg.Connection, flush: Flush) -> int:
        self._check_number(flush.number)
        seal = Seal(flush.digest or _digest_of(flush), first_used(flush.posted))
        if is_single(flush):
            written = write_single(self._connections, flush, seal)
        else:
            base = flush.number << FLUSH_SHIFT
            arguments = [*small_arguments(self._connections.worker, flush, base), *seal]
            written = connection.fetchval(self._connections.text("flush_small"), *arguments)
        number: int | None = await commit_and_settle(
            self._connections, flush.sequence, flush.number, written
        )
        return await self._connections.reserve_number() if number is None else number

    async def _write(self, connection: asyncpg.Connection, flush: Flush) -> int:
        """All but the COMMIT; returns the number for the next flush."""
        self._check_number(flush.number)
        if flush.dead_letters:
            flush.dead_letters = await self._new_letters(flush.dead_letters)
            flush.digest = None
        digest = flush.digest or _digest_of(flush)
        [fence] = await self._connections.write_rows(
            "ledger.flushes",
            1,
            "fence",
            self._connections.worker,
            flush.sequence,
            flush.number,
            flush.kind,
            flush.time,
            sum(len(decision.spent) for decision in flush.decided),
            sum(len(decision.refused.requests) for decision in flush.decided),
            len(flush.posted),
            digest,
            first_used(flush.posted),
        )
        for table, copy in flush.copies or copies_of(flush.decided, flush.posted, flush.number):
            await send_copy(connection, table, copy)
        closings = {k: v for decision in flush.decided for k, v in decision.closings.items()}
        if closings:
            ids, states = list(closings), list(closings.values())
            await self._connections.write_rows(
                "ledger.accounts", len(ids), "close_accounts", ids, states
            )
        if flush.dead_letters:
            await self._write_dead_letters(flush.dead_letters, flush.number)
        if flush.positions:
            await self._move_positions(flush)
        if flush.waiting or flush.released:
            await write_waiting(self._connections, flush)
        next_number: int = fence["next_number"]
        return next_number

    async def _new_letters(self, letters: Sequence[DeadLetter]) -> list[DeadLetter]:
        """Those that are not there yet: who writes others of my shards takes my number first."""
        rows = await self._connections.write(
            "letters_there",
            [letter.shard for letter in letters],
            [letter.position.generation for letter in letters],
            [letter.position.ms for letter in letters],
            [letter.position.seq for letter in letters],
        )
        there = {
            (row["shard"], row["generation"], row["ms"], row["seq"]): list(row["fields"])
            for row in rows
        }
        new = []
        for letter in letters:
            position, fields = letter.position, list(letter.fields)
            # Where a stream was begun anew an id can come again for another entry.
            while there.get((letter.shard, *astuple(position)), fields) != fields:
                position = replace(position, generation=position.generation + GENERATION_STEP)
            if there.setdefault((letter.shard, *astuple(position)), fields) is fields:
                new.append(replace(letter, position=position))
        return new

    async def _write_dead_letters(self, letters: Sequence[DeadLetter], number: int) -> None:
        """In columns; the fields of all of them in one, each with the place of its letter."""
        fields = [(place, field) for place, each in enumerate(letters, 1) for field in each.fields]
        await self._connections.write_rows(
            "ledger.dead_letters",
            len(letters),
            "insert_dead_letters",
            [letter.shard for letter in letters],
            [letter.position.generation for letter in letters],
            [letter.position.ms for letter in letters],
            [letter.position.seq for letter in letters],
            [letter.reason for letter in letters],
            [place for place, _ in fields],
            [field for _, field in fields],
            number,
        )

    async def _move_positions(self, flush: Flush) -> None:
        positions = flush.positions.values()
        await self._connections.write_rows(
            "ledger.positions",
            len(positions),
            "move_positions",
            flush.number,
            list(flush.positions),
            [position.generation for position in positions],
            [position.ms for position in positions],
            [position.seq for position in positions],
            [flush.resolved_until[shard] for shard in flush.positions],
        )

    async def _check_assumptions(self, flush: Flush) -> None:
        """The last act before COMMIT where funds were wanting or a balance was moved."""
        if flush.has_assumptions:
            await check_assumptions(self._connections, flush.decided)

    async def _owners(self, shards: Collection[int]) -> set[bytes]:
        rows = await self._connections.write("owners", list(shards))
        return {row["worker"] for row in rows}
