"""Deciding ahead: the flush that is being decided, and the memory that it is decided by."""

import asyncio
from collections.abc import Callable, Sequence

from engine.book.book import Book
from engine.book.columns import Decision
from engine.book.expiries import Expiries
from engine.deciding.batch import Batch
from engine.deciding.decider import Decider
from engine.deciding.few import decide_few
from engine.ledger.nouns import MICROSECONDS
from engine.settings import WorkerSettings
from engine.store.worker_store import WorkerStore
from engine.worker.bounds import EXPIRIES_MAX, EXPIRIES_READ_MAX
from engine.worker.chain import Chain
from engine.worker.inbox import Arrival
from engine.worker.locked_flush import LockedResult
from engine.worker.membership import Membership
from engine.worker.open_flush import OpenFlush, batch_of
from engine.worker.prefetch import finish_in_parts, look_up
from engine.worker.set_aside_limit import SkippedHolds
from engine.worker.waiting_room import WaitingRoom


class FlushBuilder:
    """The open flush, the book, the holds that expire soon, and the time: all in memory.

    Args:
        store: The ledger.
        chain: Where sealed flushes go.
        membership: The worker's shards.
        waiting: What is frozen, and waits.
        settings: Sizes and durations.
        clock: Microseconds since 1970.
    """

    def __init__(
        self,
        store: WorkerStore,
        chain: Chain,
        membership: Membership,
        waiting: WaitingRoom,
        settings: WorkerSettings,
        clock: Callable[[], int],
    ) -> None:
        self._store = store
        self._chain = chain
        self._membership = membership
        self.waiting = waiting
        self._settings = settings
        self._clock = clock
        self.book = self._empty_book()
        self.expiries = Expiries()
        self.opened: OpenFlush | None = None
        self.time = 0
        """Of the newest flush; the next is later."""
        self.is_careful = False
        """Whether to look up every id first, as after a flush that met one of them in Postgres."""
        self.skipped = SkippedHolds()

    # What is in memory.

    def _empty_book(self) -> Book:
        shards = self._membership.shards
        return Book(shards, min(shards, default=0), self._membership.shard_count)

    def forget_book(self) -> None:
        """Begin with an empty book."""
        self.book = self._empty_book()

    def begin_anew(self) -> None:
        """Nothing is decided, and the worker's shards may be others; the book is left as it is."""
        self.time = max(self.time, self._membership.newest_time, self.waiting.mark.time)
        self.expiries = Expiries()
        self.opened = None

    def next_time(self) -> int:
        """A time for a flush: now, and above that of every flush before."""
        return max(self._clock(), self.time + 1)

    def take_over_locked(self, result: LockedResult) -> None:
        """Take in what a locked flush wrote; nothing else is decided."""
        self.time = result.flush.time
        self.book.take_over(result.book)
        self.expiries.note_decision(result.decided)

    def undo_decided(self, ready: Sequence[OpenFlush], opened: OpenFlush | None) -> bool:
        """Take out of the book what will not be committed; False where that cannot be done.

        Args:
            ready: Flushes that were sealed.
            opened: What was open.
        """
        open_parts = opened.decided if opened is not None else []
        return self.book.take_back([part for flush in ready for part in flush.decided], open_parts)

    # The open flush.

    def is_hold_due(self) -> bool:
        """Whether a hold expires by now, or may, and nothing is open that it is too late for."""
        if self.opened is not None or not self._membership.shards or self.skipped.all_stand:
            return False
        return self.expiries.is_due(self._clock())

    def seconds_to_expiry(self) -> float | None:
        """How long until the next hold expires that the open flush need not be sent for first."""
        if self.skipped.all_stand:
            return self.skipped.stand_until - asyncio.get_running_loop().time()
        next_at = self.expiries.next_at() if self.opened is None else None
        return None if next_at is None else max(next_at - self._clock(), 0) / MICROSECONDS

    async def _open_flush(self) -> OpenFlush:
        """The flush to decide into: at a time above all before, with the holds due by then."""
        if self.opened is None:
            time = self.next_time()
            # Where more are due than go in, those at hand do first.
            if time > self.expiries.horizon and len(self.expiries) < EXPIRIES_MAX:
                await self._watch_holds(time + self._settings.horizon_seconds * MICROSECONDS)
            self.time = time
            due = self.expiries.take_expired(time, 0 if self.skipped.all_stand else EXPIRIES_MAX)
            until = min(
                [self.expiries.resolved_until(time), *(at - 1 for at in self.skipped.values())]
            )
            now = asyncio.get_running_loop().time()
            self.opened = OpenFlush(time, due, until, now)
        return self.opened

    async def _watch_holds(self, horizon: int) -> None:
        since = {
            shard: max(progress.resolved_until, self.expiries.horizon)
            for shard, progress in self._membership.shards.items()
        }
        found = await self._store.load_expiring(since, horizon, EXPIRIES_READ_MAX)
        self.expiries.horizon = found.complete_until
        for expires_at, hold_id in found.holds:
            if hold_id not in self.skipped:
                self.expiries.add_hold(expires_at, hold_id)
        # Postgres does not show yet what is decided and not committed.
        open_ = [self.opened] if self.opened is not None else []
        for uncommitted in [*self._chain.uncommitted(), *open_]:
            for decided in uncommitted.decided:
                self.expiries.note_decision(decided)

    async def park_entries(self, arrivals: list[Arrival]) -> list[Arrival]:
        """As `WaitingRoom.park_entries`, where anything is frozen or waits."""
        if not self.waiting.is_needed:
            return arrivals
        return await self.waiting.park_entries(arrivals, self.book)

    async def decide_entries(self, arrivals: list[Arrival]) -> dict[int, set[int]]:
        """Decide into the open flush; returns the locks that are needed first, if any."""
        batch = batch_of(arrivals)
        while True:
            opened = await self._open_flush()
            if self._take_few(opened, arrivals, batch):
                return {}
            due = [hold_id for _, hold_id in opened.due]
            deciding = Decider(self.book, batch, due, opened.time, careful=self.is_careful)
            newest = await look_up(deciding, self.book, self._store)
            if newest < opened.time:
                break
            # Others, by their clocks, wrote later than this flush is to be: begin a later one.
            self.time = max(self.time, newest)
            await self.flush_all()
        locks = deciding.locks
        if not locks:
            await self._take_decided(opened, arrivals, batch, deciding)
        return locks

    async def _take_decided(
        self, opened: OpenFlush, arrivals: list[Arrival], batch: Batch, deciding: Decider
    ) -> None:
        opened.due = []
        first = len(opened.decided)
        await finish_in_parts(deciding, self.book, self._store, opened.decided)
        self.is_careful = False
        self._note_decided(opened, arrivals, batch, opened.decided[first:])

    def _take_few(self, opened: OpenFlush, arrivals: list[Arrival], batch: Batch) -> bool:
        """Decide a few plain transfers by what is known; False where there is more to it."""
        if opened.due or self.is_careful:
            return False
        decision = decide_few(self.book, batch, opened.time)
        if decision is None:
            return False
        self.book.note_decision(decision)
        opened.decided.append(decision)
        self._note_decided(opened, arrivals, batch, [decision])
        return True

    def _note_decided(
        self,
        opened: OpenFlush,
        arrivals: list[Arrival],
        batch: Batch,
        parts: Sequence[Decision],
    ) -> None:
        opened.add_decided(arrivals, batch, parts)
        opened.gathers_waiting |= self.waiting.is_needed
        for part in parts:
            self.expiries.note_decision(part)

    # Towards the chain.

    def is_busy(self) -> bool:
        """Whether anything is decided and not yet seen committed."""
        return self.opened is not None or self._chain.is_under_way

    def seal_opened(self) -> None:
        """Close what is open and make it ready to be sent; the next decisions open another."""
        if self.opened is not None and not self.opened.is_empty:
            self._chain.seal(self.opened, self.book)
        undecided = self.opened.due if self.opened is not None else []
        self.opened = None
        for expires_at, hold_id in undecided:
            self.expiries.add_hold(expires_at, hold_id)

    async def await_commit(self) -> None:
        """Wait for the flush in flight and take its failure, if it failed."""
        await self._chain.await_commit(self.book)
        if self.book.accounts > self._settings.accounts_max and not self.is_busy():
            self.book.forget_unused(self._settings.accounts_max // 2)

    async def flush_all(self) -> None:
        """Flush all that is decided and see it committed."""
        while self.is_busy():
            await self.await_commit()
            if not self._chain.is_ready:
                self.seal_opened()
            if self._chain.is_ready:
                self._chain.send()
