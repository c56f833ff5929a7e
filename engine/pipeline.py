"""The pipeline of a worker: while a flush is under way the next is decided.

One flush is in flight. When a flush fails because another came first, everything in memory
that rests on it is thrown away and decided again from the entries, which are still at hand.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import structlog

from engine.aftermath import Aftermath, Told
from engine.batch import Batch
from engine.book import Book
from engine.deciding import Deciding
from engine.errors import EngineError, InvariantBroken, LostOwnershipError, TryAgainError
from engine.holds import DueHolds
from engine.inbox import Arrival, Inbox
from engine.locked import decide_locked
from engine.looking_up import look_up
from engine.nouns import MICROSECONDS
from engine.rows import Decided
from engine.settings import WorkerSettings
from engine.statistics import WorkerStatistics
from engine.store.connection import ConflictError, FundsArrivedError
from engine.store.copying import copies_of
from engine.store.postgres import PostgresStore
from engine.store.rows import DeadLetter, Flush, Owned
from engine.store.small import is_small
from engine.telling import dead_letters, positions_of, tell

_log = structlog.get_logger()

FUNDS_ARRIVED_MAX = 2
"""So often in a row a flush may find that what it declined need not be; then it locks first."""

FIRST_CAME_ANOTHER = (ConflictError, LostOwnershipError)


class OpenFlush:
    """What is decided since the last flush was sent, and from which entries."""

    __slots__ = ("dead_letters", "decided", "due", "time", "told", "transfers")

    def __init__(self, time: int, due: list[bytes]) -> None:
        self.time = time
        self.due = due
        self.decided: list[Decided] = []
        self.dead_letters: list[DeadLetter] = []
        self.told: list[Told] = []
        self.transfers = 0

    @property
    def arrivals(self) -> list[Arrival]:
        """The entries, in order."""
        return [one.arrival for one in self.told]


class Pipeline:
    """From the inbox to committed flushes. Used for one session.

    Args:
        store: The ledger.
        inbox: Where entries arrive.
        aftermath: What is committed is handed over to it.
        statistics: Counted up.
        settings: Sizes and durations.
        clock: Microseconds since 1970.
        shard_count: Of the ledger.
    """

    def __init__(
        self,
        store: PostgresStore,
        inbox: Inbox,
        aftermath: Aftermath,
        statistics: WorkerStatistics,
        settings: WorkerSettings,
        clock: Callable[[], int],
        shard_count: int,
    ) -> None:
        self._store = store
        self._inbox = inbox
        self._aftermath = aftermath
        self._statistics = statistics
        self._settings = settings
        self._clock = clock
        self._shard_count = shard_count
        self.owned: dict[int, Owned] = {}
        self._open: OpenFlush | None = None
        self._flight: asyncio.Task[None] | None = None
        self._flown: OpenFlush | None = None
        self._sealed: tuple[OpenFlush, Flush] | None = None
        self._conflicts = 0
        self._arrived = 0
        self._careful = False

    async def load(self) -> None:
        """Begin from what is committed, with an empty book."""
        ownership = await self._store.load_ownership()
        self._next_sequence = ownership.sequence + 1
        await self._reserve(ownership.number)
        self.owned = ownership.shards
        self._reached = {shard: owned.position for shard, owned in self.owned.items()}
        self._time = max((owned.time for owned in self.owned.values()), default=0)
        self._book = Book(self.owned, min(self.owned, default=0), self._shard_count)
        self._due = DueHolds()
        self._open = None
        self._sealed = None

    async def _reserve(self, number: int) -> None:
        """Numbers for the next two flushes: one may be sealed while another is in flight."""
        self._numbers = deque([number, await self._store.reserve_number()])

    async def close(self) -> None:
        """Wait for a flush under way, whatever becomes of it: it may be committed."""
        if self._flight is not None:
            await asyncio.wait([self._flight])
            self._flight.exception()

    async def go_on(self, *, decide: bool = True) -> None:
        """One step: land, decide what is there, send; or, where another came first, redo."""
        try:
            if self._flight is not None and self._flight.done():
                await self._land()
            if decide and not self._is_full():
                arrivals = self._inbox.take(self._room())
                if arrivals or self._hold_is_due():
                    await self._decide(arrivals)
            # A full flush is made ready while another is in flight; one that is not full may
            # still grow, until there is nothing in flight.
            if self._sealed is None and (self._is_full() or self._flight is None or not decide):
                self._seal()
            if self._sealed is not None and self._flight is None:
                self._launch()
            elif self._is_full() or not decide:
                await self._land()
        except FIRST_CAME_ANOTHER as error:
            await self._redo(error)

    def is_busy(self) -> bool:
        """Whether anything is decided and not yet seen committed."""
        return not (self._open is None and self._sealed is None and self._flight is None)

    def _room(self) -> int:
        return self._settings.flush_transfers_max - (self._open.transfers if self._open else 0)

    def _is_full(self) -> bool:
        return self._open is not None and self._room() <= 0

    async def wait(self) -> None:
        """Until an entry arrives, the flush lands, a hold lapses, or a moment has passed."""
        seconds = self._settings.block_ms / 1000
        next_at = self._due.next_at()
        if next_at is not None:
            seconds = min(seconds, max(next_at - self._clock(), 0) / MICROSECONDS + 0.001)
        woken = asyncio.ensure_future(self._inbox.wake.wait())
        waits: list[asyncio.Future[Any]] = [woken, *([self._flight] if self._flight else [])]
        try:
            await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            woken.cancel()

    def _hold_is_due(self) -> bool:
        now = self._clock()
        if now > self._due.horizon:
            return bool(self.owned)
        next_at = self._due.next_at()
        return next_at is not None and next_at <= now

    def _seal(self) -> None:
        """Close what is open and make it ready to be sent; the next decisions open another."""
        opened, self._open = self._open, None
        if opened is None or not (opened.told or any(len(one.slots) for one in opened.decided)):
            return
        posted = self._book.post(opened.decided)
        positions = positions_of(posted, opened.arrivals, self._reached)
        flush = Flush(
            self._next_sequence,
            self._numbers.popleft(),
            opened.time,
            opened.decided,
            posted,
            positions,
            opened.dead_letters,
        )
        if not is_small(flush):
            flush.copies = copies_of(opened.decided, posted, flush.number)
        self._next_sequence += 1
        self._reached |= positions
        self._book.begin_flush()
        self._sealed = opened, flush

    def _launch(self) -> None:
        if self._sealed is None:
            raise InvariantBroken("there is nothing ready to be sent")
        self._flown, flush = self._sealed
        self._sealed = None
        self._flight = asyncio.create_task(self._fly(flush, self._flown.told))

    async def _fly(self, flush: Flush, told: list[Told]) -> None:
        self._numbers.append(await self._store.flush(flush))
        self._committed(flush, told)

    def _committed(self, flush: Flush, told: list[Told]) -> None:
        for shard, position in flush.positions.items():
            if shard in self.owned:
                self.owned[shard] = Owned(position, flush.time)
        self._conflicts = self._arrived = 0
        statistics = self._statistics
        statistics.flushes += 1
        statistics.unreadable += len(flush.dead_letters)
        for one in flush.decided:
            created = int((one.outcomes == 0).sum())
            statistics.created += created
            statistics.refused += len(one.outcomes) - created
        if told:
            self._aftermath.add(told)

    async def _land(self) -> None:
        """Wait for the flush in flight and take its failure, if it failed."""
        if self._flight is None:
            return
        flight = self._flight
        await asyncio.wait([flight])
        self._flight = None
        await flight
        self._flown = None
        self._book.land_flush()
        if self._book.accounts > self._settings.accounts_max and not self.is_busy():
            self._book.forget_unused(self._settings.accounts_max // 2)

    async def drain(self) -> None:
        """Flush all that is decided and see it committed."""
        while self.is_busy():
            await self._land()
            if self._sealed is None:
                self._seal()
            if self._sealed is not None:
                self._launch()

    async def _redo(self, error: EngineError) -> None:
        """Another came first: forget what was decided and begin from the entries again."""
        self._statistics.conflicts += 1
        self._conflicts += 1
        if self._conflicts > self._settings.conflicts_max:
            raise InvariantBroken(
                f"{self._conflicts} conflicts in a row without a flush in between: {error}",
            ) from error
        _log.info("decided_again", reason=str(error))
        if self._open is not None:
            self._inbox.put_back(self._open.arrivals)
        if self._sealed is not None:
            self._inbox.put_back(self._sealed[0].arrivals)
        if self._flight is not None:
            await asyncio.wait([self._flight])
            self._flight.exception()
            self._flight = None
        if self._flown is not None:
            self._inbox.put_back(self._flown.arrivals)
            self._flown = None
        before = {shard: owned.position for shard, owned in self.owned.items()}
        await self.load()
        if before != {shard: owned.position for shard, owned in self.owned.items()}:
            raise TryAgainError("shards or positions are others now: beginning again")
        self._arrived += isinstance(error, FundsArrivedError)
        self._careful = isinstance(error, ConflictError)

    # Deciding.

    async def _decide(self, arrivals: Sequence[Arrival]) -> None:
        """Decide in order; what is not wholly this worker's own goes by a locked flush."""
        undecided = list(arrivals)
        try:
            if self._arrived > FUNDS_ARRIVED_MAX:
                others = set(range(self._shard_count)) - self.owned.keys()
                await self.drain()
                await self._decide_locked(undecided, others)
                return
            locks = await self._decide_here(undecided)
            if not locks:
                return
            free, behind = _part(undecided, locks)
            if free and not await self._decide_here(free):
                undecided = behind
            await self.drain()
            shards = {shard for found in locks.values() for shard in found}
            await self._decide_locked(undecided, shards)
        except FIRST_CAME_ANOTHER:
            self._inbox.put_back(undecided)
            raise

    async def _decide_here(self, arrivals: list[Arrival]) -> dict[int, set[int]]:
        """Decide into the open flush; returns the locks that are needed first, if any."""
        batch = Batch([a.rows for a in arrivals], [a.entry.shard for a in arrivals])
        while True:
            opened = await self._open_flush()
            deciding = Deciding(self._book, batch, opened.due, opened.time, careful=self._careful)
            newest = await look_up(deciding, self._book, self._store)
            if newest < opened.time:
                break
            # Others, by their clocks, wrote later than this flush is to be: begin a later one.
            self._time = max(self._time, newest)
            for hold_id in opened.due:
                self._due.add(opened.time, hold_id)
            await self.drain()
        locks = deciding.locks()
        if not locks:
            self._take(opened, arrivals, batch, deciding.finish())
        return locks

    def _take(
        self, opened: OpenFlush, arrivals: Sequence[Arrival], batch: Batch, decided: Decided
    ) -> None:
        self._careful = False
        opened.due = []
        opened.decided.append(decided)
        opened.dead_letters += dead_letters(arrivals)
        opened.told += tell(arrivals, batch, decided.outcomes)
        opened.transfers += len(batch.rows) + len(arrivals)
        self._watch(decided)

    def _watch(self, decided: Decided) -> None:
        for row in decided.spent[decided.spent["expires_at"] > 0]:
            self._due.add(int(row["expires_at"]), row["id"].tobytes())

    async def _open_flush(self) -> OpenFlush:
        """The flush to decide into: at a time above all before, with the holds due by then."""
        if self._open is None:
            time = max(self._clock(), self._time + 1)
            if time > self._due.horizon:
                await self._watch_holds(time + self._settings.horizon_seconds * MICROSECONDS)
            self._time = time
            self._open = OpenFlush(time, self._due.take(time))
        return self._open

    async def _watch_holds(self, horizon: int) -> None:
        since = {shard: max(owned.time, self._due.horizon) for shard, owned in self.owned.items()}
        found = await self._store.load_due(since, horizon)
        self._due.horizon = horizon
        for one in found:
            self._due.add(*one)
        # Postgres does not show yet what is decided and not committed.
        sealed = self._sealed[0] if self._sealed is not None else None
        for uncommitted in (self._flown, sealed, self._open):
            for decided in uncommitted.decided if uncommitted is not None else ():
                self._watch(decided)

    async def _decide_locked(self, arrivals: list[Arrival], shards: set[int]) -> None:
        """Decide under the locks of all owners concerned; nothing is in flight."""
        result = await decide_locked(
            self._store,
            arrivals,
            shards,
            sequence=self._next_sequence,
            time=max(self._clock(), self._time + 1),
            owned=self.owned,
            shard_count=self._shard_count,
        )
        self._time = result.flush.time
        self._statistics.locked += 1
        self._next_sequence += 1
        # Numbers reserved before are lower than that of the locked flush: no more of use.
        await self._reserve(result.next_number)
        self._reached |= {s: p for s, p in result.flush.positions.items() if s in self.owned}
        self._committed(result.flush, result.told)
        self._book.take_over(result.book)
        self._watch(result.decided)


def _part(
    arrivals: Sequence[Arrival], locks: dict[int, set[int]]
) -> tuple[list[Arrival], list[Arrival]]:
    """Entries before which nothing of their stream waits for a lock, and the others."""
    if -1 in locks:  # a hold lapses first
        return [], list(arrivals)
    waiting: set[int] = set()
    free: list[Arrival] = []
    behind: list[Arrival] = []
    for at, arrival in enumerate(arrivals):
        if at in locks:
            waiting.add(arrival.entry.shard)
        (behind if arrival.entry.shard in waiting else free).append(arrival)
    return free, behind
