"""The pipeline of a worker: while a flush is under way the next is decided.

One flush is in flight. When a flush fails because another came first, everything in memory
that rests on it is thrown away and decided again from the entries, which are still at hand.
"""

import asyncio
from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np
import structlog

from engine.book.book import Book
from engine.book.columns import Decision
from engine.book.expiries import Expiries
from engine.deciding.batch import Batch
from engine.deciding.decider import Decider
from engine.errors import (
    BookStandsError,
    ChainMovedError,
    EngineError,
    FirstCameAnotherError,
    FundsArrivedError,
    InvariantBroken,
    TryAgainError,
)
from engine.ledger.nouns import MICROSECONDS
from engine.settings import WorkerSettings
from engine.store.ownership import OwnershipChange
from engine.store.rows import Flush, OwnedShards, ShardProgress
from engine.store.worker_store import WorkerStore
from engine.worker.chain import Chain
from engine.worker.inbox import Arrival, Inbox
from engine.worker.locked_flush import decide_locked
from engine.worker.open_flush import OpenFlush, part
from engine.worker.prefetch import finish_in_parts, look_up
from engine.worker.replies import Replier, Reply, dead_letters, replies_of
from engine.worker.statistics import WorkerStatistics

_log = structlog.get_logger()

CONFLICTS_UNLOCKED_MAX = 3
"""So often in a row may others come first; then they are locked out."""

AHEAD_TRANSFERS_MIN = 256
"""While a flush is under way fewer than these wait: one by one each would cost as much CPU."""

SHORT_TRANSFERS_MAX = 512
"""In a short flush."""

FIRST_CAME_ANOTHER = FirstCameAnotherError


class Pipeline:
    """From the inbox to committed flushes. Used for one session.

    Args:
        store: The ledger.
        inbox: Where entries arrive.
        replier: What is committed is handed over to it.
        statistics: Counted up.
        settings: Sizes and durations.
        clock: Microseconds since 1970.
        shard_count: Of the ledger.
        on_lost: Called with shards that another worker took.
    """

    def __init__(
        self,
        store: WorkerStore,
        inbox: Inbox,
        replier: Replier,
        statistics: WorkerStatistics,
        settings: WorkerSettings,
        clock: Callable[[], int],
        shard_count: int,
        on_lost: Callable[[set[int]], None],
    ) -> None:
        self._store = store
        self._inbox = inbox
        self._replier = replier
        self._statistics = statistics
        self._settings = settings
        self._clock = clock
        self._shard_count = shard_count
        self._on_lost = on_lost
        self.owned: dict[int, ShardProgress] = {}
        self._chain = Chain(store, self._committed)
        self._open: OpenFlush | None = None
        self._time = 0
        self._conflicts = 0
        self._arrived = 0
        self._careful = False
        self.in_short = False
        """Whether shards are about to change hands, which waits for what is under way: flushes
        are short then, and nothing is decided ahead."""

    async def load(self) -> None:
        """Begin from what is committed, with an empty book."""
        await self._begin(await self._store.load_ownership())
        self._book = self._empty_book()

    async def _begin(self, ownership: OwnedShards) -> None:
        self.owned = ownership.shards
        await self._chain.begin(ownership.sequence + 1, ownership.number, self.owned)
        self._time = max([self._time, *(owned.time for owned in self.owned.values())])
        self._due = Expiries()
        self._open = None

    def _empty_book(self) -> Book:
        return Book(self.owned, min(self.owned, default=0), self._shard_count)

    # Shards come and go.

    async def finish(self) -> None:
        """See all committed that is decided, or back in the inbox."""
        while self.is_busy():
            await self.go_on(decide=False)

    async def claim(self, shards: Collection[int]) -> None:
        """Take over shards that are free or whose owners' leases have ended.

        Raises as `Owning.claim`; some may be this worker's all the same.
        """
        await self.finish()
        for owner in await self._store.ownership.owners(shards):
            time = max(self._clock(), self._time + 1)
            changed = await self._store.ownership.claim(owner, shards, owned=self.owned, time=time)
            if changed is not None:
                await self._rest_on(changed)

    async def release(
        self, shards: Collection[int], paused_seconds: float, *, leaving: bool = False
    ) -> None:
        """Give shards back, when nothing of them is in the inbox. Raises as `Owning.release`."""
        if self.is_busy():
            raise InvariantBroken("shards are given back while something is undecided")
        changed = await self._store.ownership.release(
            shards,
            owned=self.owned,
            time=max(self._clock(), self._time + 1),
            paused_seconds=paused_seconds,
            leaving=leaving,
        )
        if leaving:
            self.owned = changed.owned
        else:
            await self._rest_on(changed)

    async def _rest_on(self, changed: OwnershipChange) -> None:
        """What is in memory rests on other shards from now on; nothing is under way."""
        self.owned = changed.owned
        if changed.sequence != self._chain.sequence:
            # Others lent the chain before: what they wrote is not in the book.
            self._book = self._empty_book()
        self._book.change_owned(self.owned)
        self._time = max([self._time, *(one.time for one in self.owned.values())])
        self._due = Expiries()
        self._open = None
        number = await self._store.reserve_number()
        await self._chain.begin(changed.sequence + 1, number, self.owned)

    async def close(self) -> None:
        """Wait for a flush under way, whatever becomes of it: it may be committed."""
        await self._chain.close()

    async def go_on(self, *, decide: bool = True) -> None:
        """One step: land, decide what is there, send; or, where another came first, redo."""
        try:
            chain = self._chain
            if chain.in_flight is not None and chain.in_flight.done():
                await self._await_commit()
            if decide and (self.has_work or self._hold_is_due()) and not self._is_full():
                await self._decide(self._inbox.take(self._room()))
            # A full flush is made ready while another is in flight; one that is not full may
            # still grow, until there is nothing in flight.
            is_free = chain.in_flight is None
            if not chain.is_one_ready and (self._is_full() or is_free or not decide):
                self._seal()
            if chain.is_one_ready and is_free:
                chain.send()
            elif self._is_full() or not decide:
                await self._await_commit()
        except FIRST_CAME_ANOTHER as error:
            await self.redo(error)

    @property
    def has_work(self) -> bool:
        """Whether it is time to decide: while a flush is under way, only what is worth a start."""
        if self._chain.in_flight is None:
            return bool(self._inbox)
        return not self.in_short and self._inbox.transfers >= AHEAD_TRANSFERS_MIN

    def is_busy(self) -> bool:
        """Whether anything is decided and not yet seen committed."""
        return self._open is not None or self._chain.are_under_way

    def _room(self) -> int:
        most = SHORT_TRANSFERS_MAX if self.in_short else self._settings.flush_transfers_max
        return most - (self._open.transfers if self._open else 0)

    def _is_full(self) -> bool:
        return self._open is not None and self._room() <= 0

    async def wait(self) -> None:
        """Until an entry arrives, the flush lands, a hold lapses, or a moment has passed."""
        seconds = self._settings.block_ms / 1000
        next_at = self._due.next_at()
        if next_at is not None:
            seconds = min(seconds, max(next_at - self._clock(), 0) / MICROSECONDS + 0.001)
        woken = asyncio.ensure_future(self._inbox.wake.wait())
        flight = self._chain.in_flight
        waits: list[asyncio.Future[Any]] = [woken, *([flight] if flight else [])]
        try:
            await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            woken.cancel()

    def _hold_is_due(self) -> bool:
        return bool(self.owned) and self._due.is_due(self._clock())

    def _seal(self) -> None:
        """Close what is open and make it ready to be sent; the next decisions open another."""
        opened, self._open = self._open, None
        if opened is not None and (opened.replies or any(len(one.slots) for one in opened.decided)):
            self._chain.seal(opened, self._book)

    def _committed(self, flush: Flush, replies: list[Reply]) -> None:
        for shard, position in flush.positions.items():
            if shard in self.owned:
                self.owned[shard] = ShardProgress(position, flush.time)
        self._conflicts = self._arrived = 0
        statistics = self._statistics
        statistics.flushes += 1
        statistics.unreadable += len(flush.dead_letters)
        for one in flush.decided:
            created = int((one.outcomes == 0).sum())
            statistics.created += created
            statistics.refused += len(one.outcomes) - created
        for each in replies:
            statistics.load.add(each.arrival.entry.shard, len(each.arrival.rows))
        if replies:
            self._replier.add(replies)

    async def _await_commit(self) -> None:
        """Wait for the flush in flight and take its failure, if it failed."""
        await self._chain.await_commit(self._book)
        if self._book.accounts > self._settings.accounts_max and not self.is_busy():
            self._book.forget_unused(self._settings.accounts_max // 2)

    async def drain(self) -> None:
        """Flush all that is decided and see it committed."""
        while self.is_busy():
            await self._await_commit()
            if not self._chain.is_one_ready:
                self._seal()
            if self._chain.is_one_ready:
                self._chain.send()

    async def redo(self, error: EngineError) -> None:
        """Another came first: forget what was decided and begin from the entries again."""
        self._statistics.conflicts += 1
        self._conflicts += 1
        if self._conflicts > self._settings.conflicts_max:
            raise InvariantBroken(
                f"{self._conflicts} conflicts in a row without a flush in between: {error}",
            ) from error
        _log.info("decided_again", reason=str(error))
        ready = await self._chain.take_back()
        noted = [self._open] if self._open is not None else []
        self._inbox.put_back([arrival for one in (*ready, *noted) for arrival in one.arrivals])
        before = self.owned
        expected = self._chain.sequence - len(ready)
        ownership = await self._store.load_ownership()
        await self._begin(ownership)
        stands = isinstance(error, BookStandsError) and ownership.sequence + 1 == expected
        undo = [[decided for one in part for decided in one.decided] for part in (ready, noted)]
        if not (stands and self._book.take_back(*undo)):
            self._book = self._empty_book()
        lost = before.keys() - self.owned.keys()
        if lost:
            _log.warning("shards_lost", shards=sorted(lost))
            self._on_lost(lost)
        if any(
            shard not in before or before[shard].position != owned.position
            for shard, owned in self.owned.items()
        ):
            raise TryAgainError("shards or positions are others now: beginning again")
        self._arrived += isinstance(error, FundsArrivedError)
        self._careful = not isinstance(error, FundsArrivedError | ChainMovedError)

    # Deciding.

    async def _decide(self, arrivals: Sequence[Arrival]) -> None:
        """Decide in order; what is not wholly this worker's own goes by a locked flush."""
        undecided = list(arrivals)
        try:
            if self._conflicts > CONFLICTS_UNLOCKED_MAX:
                await self._decide_locked_first(undecided)
                return
            locks = await self._decide_here(undecided)
            if not locks:
                return
            free, behind = part(undecided, locks)
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
            deciding = Decider(self._book, batch, opened.due, opened.time, careful=self._careful)
            async with self._chain.recheck_ownership(self._book):
                newest = await look_up(deciding, self._book, self._store)
            if newest < opened.time:
                break
            # Others, by their clocks, wrote later than this flush is to be: begin a later one.
            self._time = max(self._time, newest)
            for hold_id in opened.due:
                self._due.add_hold(opened.time, hold_id)
            await self.drain()
        locks = deciding.locks
        if not locks:
            opened.due = []
            first = len(opened.decided)
            async with self._chain.recheck_ownership(self._book):
                await finish_in_parts(deciding, self._book, self._store, opened.decided)
            self._take(opened, arrivals, batch, opened.decided[first:])
        return locks

    def _take(
        self,
        opened: OpenFlush,
        arrivals: Sequence[Arrival],
        batch: Batch,
        decided: Sequence[Decision],
    ) -> None:
        self._careful = False
        opened.dead_letters += dead_letters(arrivals)
        opened.replies += replies_of(
            arrivals, batch, np.concatenate([one.outcomes for one in decided])
        )
        opened.transfers += len(batch.rows) + len(arrivals)
        for one in decided:
            self._due.note_decision(one)

    async def _open_flush(self) -> OpenFlush:
        """The flush to decide into: at a time above all before, with the holds due by then."""
        if self._open is None:
            time = max(self._clock(), self._time + 1)
            if time > self._due.horizon:
                await self._watch_holds(time + self._settings.horizon_seconds * MICROSECONDS)
            self._time = time
            self._open = OpenFlush(time, self._due.take_expired(time))
        return self._open

    async def _watch_holds(self, horizon: int) -> None:
        since = {shard: max(owned.time, self._due.horizon) for shard, owned in self.owned.items()}
        found = await self._store.load_expiring(since, horizon)
        self._due.horizon = horizon
        for one in found:
            self._due.add_hold(*one)
        # Postgres does not show yet what is decided and not committed.
        open_ = [self._open] if self._open is not None else []
        for uncommitted in [*self._chain.uncommitted(), *open_]:
            for decided in uncommitted.decided:
                self._due.note_decision(decided)

    async def _decide_locked_first(self, arrivals: list[Arrival]) -> None:
        """Where others kept coming first they are locked out, and all is read under the lock."""
        await self.drain()
        # Whoever brings funds needs no lock of ours: it is theirs that keeps them out.
        shards = set(range(self._shard_count)) - self.owned.keys() if self._arrived else set()
        await self._decide_locked(arrivals, shards, read_sequence=True)
        self._book = self._empty_book()
        self._due = Expiries()

    async def _decide_locked(
        self, arrivals: list[Arrival], shards: set[int], *, read_sequence: bool = False
    ) -> None:
        """Decide under the locks of all owners concerned; nothing is in flight."""
        result = await decide_locked(
            self._store,
            arrivals,
            shards,
            sequence=None if read_sequence else self._chain.sequence,
            time=max(self._clock(), self._time + 1),
            owned=self.owned,
            writing_shard=self._book.writing_shard,
            shard_count=self._shard_count,
        )
        self._time = result.flush.time
        self._statistics.locked += 1
        self._committed(result.flush, result.replies)
        # Numbers reserved before are lower than that of the locked flush: no more of use.
        await self._chain.begin(result.flush.sequence + 1, result.next_number, self.owned)
        self._book.take_over(result.book)
        self._due.note_decision(result.decided)
