"""The pipeline of a worker: while a flush is under way the next is decided.

Theory of operation
-------------------
Four machines work on one memory, and one task drives them, so that nothing changes under anybody's
hands but where it waits itself:

    inbox          what was read and is not decided              `take`, `put_back`
    flush builder  the open flush, book, expiries, time          `decide_entries`, `seal_opened`
    chain          a flush that is ready, one in flight          `seal`, `send`, `await_commit`
    conflicts      how often others came first in a row          `redo_decided`

What triggers a step (`advance_flushes`): an entry arrives, the flush in flight ends, a hold is due.
A step takes the end of the flush in flight, decides what is in the inbox as far as it fits, and
makes ready and sends what it may. `chain` has the states of a flush as a table.

Three ways lead from an entry to a commit:

    free      all of it is this worker's: decided ahead, while another flush is in flight
    locked    it depends on accounts or holds of other workers: all that is decided is flushed,
              the owners' rows are locked, all is read afresh (`locked_flush`); those entries of its
              stream that came after it wait for it
    redone    another came first: all that is decided and not committed goes back to the inbox, as
              if just read, and after a few times in a row it goes by locked flushes alone

What is awkward:

- To decide is to change the book, before anything is committed. So a conflict makes the whole book
  worthless, but where it is known to stand (`BookStandsError`): then what was decided is taken out.
- Everything that waits can find that another came first: looking up, deciding, sealing, landing.
  All of it raises one of `FIRST_CAME_ANOTHER`, and three methods of the pipeline handle it.
- A flush's time is set when it is opened, and what is looked up for it may turn out to be later.
"""

import asyncio
from collections.abc import Callable, Collection, Sequence
from typing import Any, Final

import structlog

from engine.errors import (
    BookStandsError,
    ChainMovedError,
    EngineError,
    FirstCameAnotherError,
    FundsArrivedError,
    InvariantBroken,
    TryAgainError,
)
from engine.settings import WorkerSettings
from engine.store.rows import Flush
from engine.store.worker_store import WorkerStore
from engine.worker.chain import Chain
from engine.worker.claims import Claims
from engine.worker.flush_builder import FlushBuilder
from engine.worker.flush_report import FlushReport, Phases, report_flush
from engine.worker.inbox import Arrival, Inbox
from engine.worker.locked_flush import decide_locked
from engine.worker.membership import Membership
from engine.worker.open_flush import split_at_locks
from engine.worker.replies import Replier, Reply
from engine.worker.statistics import WorkerStatistics

_log = structlog.get_logger()

CONFLICTS_UNLOCKED_MAX: Final = 3
"""So often in a row may others come first; then they are locked out."""

AHEAD_TRANSFERS_MIN = 256
"""While a flush is under way fewer than these wait: one by one each would cost as much CPU."""

SHORT_TRANSFERS_MAX: Final = 512
"""In a short flush."""

FIRST_CAME_ANOTHER = FirstCameAnotherError


class Pipeline:
    """From the inbox to committed flushes. Used for one session.

    Args:
        store: The ledger.
        inbox: Where entries arrive.
        replier: What is committed is handed over to it.
        membership: The worker's shards.
        statistics: Conflicts are counted in it.
        settings: Sizes and durations.
        clock: Microseconds since 1970.
        on_report: Called with the report of each flush.
        on_lost: Called with shards that another worker took.
    """

    def __init__(
        self,
        store: WorkerStore,
        inbox: Inbox,
        replier: Replier,
        membership: Membership,
        statistics: WorkerStatistics,
        settings: WorkerSettings,
        clock: Callable[[], int],
        on_report: Callable[[FlushReport], None],
        on_lost: Callable[[set[int]], None],
    ) -> None:
        self._store = store
        self._inbox = inbox
        self._replier = replier
        self._membership = membership
        self._statistics = statistics
        self._settings = settings
        self._on_report = on_report
        self._on_lost = on_lost
        self._chain = Chain(store, membership, self._finish_flush)
        self._builder = FlushBuilder(store, self._chain, membership, settings, clock)
        self._claims = Claims(store, self._chain, self._builder, membership)
        self._conflicts = 0
        self._arrived = 0
        self.in_short = False
        """Whether shards are about to change hands, which waits for what is under way: flushes
        are short then, and nothing is decided ahead."""

    async def load(self) -> None:
        """Begin from what is committed, with an empty book."""
        await self._load_ownership()
        self._builder.forget_book()

    async def _load_ownership(self) -> set[int]:
        """Begin from what is committed; returns the shards that others took since."""
        ownership = await self._store.load_ownership()
        lost = self._membership.load_shards(ownership.shards)
        await self._chain.begin(ownership.sequence + 1, ownership.number)
        self._builder.begin_anew()
        return lost

    # Step by step.

    async def advance_flushes(self, *, decide: bool = True) -> None:
        """One step: take a commit, decide what is there, send; or, where another came first, redo.

        Args:
            decide: Whether to take from the inbox; else what is decided is sent and waited for.
        """
        try:
            chain, builder = self._chain, self._builder
            if chain.in_flight is not None and chain.in_flight.done():
                await builder.await_commit()
            if decide and (self.has_work or builder.is_hold_due()) and not self._is_full():
                await self._decide_arrivals(self._inbox.take(self._room()))
            # A full flush is made ready while another is in flight; one that is not full may
            # still grow, until there is nothing in flight.
            is_free = chain.in_flight is None
            if not chain.is_ready and (self._is_full() or is_free or not decide):
                builder.seal_opened()
            if chain.is_ready and is_free:
                chain.send()
            elif self._is_full() or not decide:
                await builder.await_commit()
        except FIRST_CAME_ANOTHER as error:
            await self.redo_decided(error)

    @property
    def has_work(self) -> bool:
        """Whether it is time to decide: while a flush is under way, only what is worth a start."""
        if self._chain.in_flight is None:
            return bool(self._inbox)
        return not self.in_short and self._inbox.transfers >= AHEAD_TRANSFERS_MIN

    def is_busy(self) -> bool:
        """Whether anything is decided and not yet seen committed."""
        return self._builder.is_busy()

    def _room(self) -> int:
        most = SHORT_TRANSFERS_MAX if self.in_short else self._settings.flush_transfers_max
        return most - self._builder.transfers

    def _is_full(self) -> bool:
        return self._builder.opened is not None and self._room() <= 0

    async def wait_for_work(self) -> None:
        """Until an entry arrives, the flush lands, a hold expires, or a moment has passed."""
        seconds = self._settings.block_ms / 1000
        to_expiry = self._builder.seconds_to_expiry()
        if to_expiry is not None:
            seconds = min(seconds, to_expiry + 0.001)
        woken = asyncio.ensure_future(self._inbox.wake.wait())
        flight = self._chain.in_flight
        waits: list[asyncio.Future[Any]] = [woken, *([flight] if flight else [])]
        try:
            await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            woken.cancel()

    def _finish_flush(self, flush: Flush, replies: list[Reply], phases: Phases) -> None:
        """A flush is committed: everybody hears of it."""
        self._membership.commit(flush.positions, flush.time)
        now = asyncio.get_running_loop().time()
        self._on_report(report_flush(flush, replies, phases, now, self._conflicts))
        self._conflicts = self._arrived = 0
        if replies:
            self._replier.add(replies)

    async def finish_decided(self) -> None:
        """See all committed that is decided, or back in the inbox."""
        while self.is_busy():
            await self.advance_flushes(decide=False)

    async def close(self) -> None:
        """Wait for a flush under way, whatever becomes of it: it may be committed."""
        await self._chain.close()

    # Shards come and go.

    async def claim_shards(self, shards: Collection[int]) -> None:
        """See all committed, then claim; as `Claims.claim_shards`, but others may come first."""
        try:
            await self.finish_decided()
            await self._claims.claim_shards(shards)
        except FIRST_CAME_ANOTHER as error:
            await self.redo_decided(error)

    async def release_shards(
        self, shards: Collection[int], paused_seconds: float, *, leaving: bool = False
    ) -> bool:
        """Release, as `Claims.release_shards`; False where others came first."""
        try:
            await self._claims.release_shards(shards, paused_seconds, leaving=leaving)
        except FIRST_CAME_ANOTHER as error:
            await self.redo_decided(error)
            return False
        return True

    # Deciding.

    async def _decide_arrivals(self, arrivals: Sequence[Arrival]) -> None:
        """Decide in order; what is not wholly this worker's own goes by a locked flush."""
        undecided = list(arrivals)
        try:
            if self._conflicts > CONFLICTS_UNLOCKED_MAX:
                await self._decide_locked_first(undecided)
                return
            locks = await self._builder.decide_entries(undecided)
            if not locks:
                return
            free, behind = split_at_locks(undecided, locks)
            if free and not await self._builder.decide_entries(free):
                undecided = behind
            await self._builder.flush_all()
            shards = {shard for found in locks.values() for shard in found}
            await self._decide_locked(undecided, shards)
        except FIRST_CAME_ANOTHER:
            self._inbox.put_back(undecided)
            raise

    async def _decide_locked_first(self, arrivals: list[Arrival]) -> None:
        """Where others kept coming first they are locked out, and all is read under the lock."""
        await self._builder.flush_all()
        # Whoever brings funds needs no lock of ours: it is theirs that keeps them out.
        everybody = set(range(self._membership.shard_count)) - self._membership.owned
        await self._decide_locked(
            arrivals, everybody if self._arrived else set(), read_sequence=True
        )
        self._builder.forget_book()
        self._builder.begin_anew()

    async def _decide_locked(
        self, arrivals: list[Arrival], shards: set[int], *, read_sequence: bool = False
    ) -> None:
        """Decide under the locks of all owners concerned; nothing is in flight."""
        now = asyncio.get_running_loop().time()
        result = await decide_locked(
            self._store,
            arrivals,
            shards,
            sequence=None if read_sequence else self._chain.sequence,
            time=self._builder.next_time(),
            owned=self._membership.shards,
            writing_shard=self._builder.book.writing_shard,
            shard_count=self._membership.shard_count,
        )
        self._finish_flush(result.flush, result.replies, Phases(now, now, now))
        # Numbers reserved before are lower than that of the locked flush: no more of use.
        await self._chain.begin(result.flush.sequence + 1, result.next_number)
        self._builder.take_over_locked(result)

    # Redoing.

    async def redo_decided(self, error: EngineError) -> None:
        """Another came first: forget what was decided and begin from the entries again."""
        self._statistics.conflicts += 1
        self._conflicts += 1
        if self._conflicts > self._settings.conflicts_max:
            raise InvariantBroken(
                f"{self._conflicts} conflicts in a row without a flush in between: {error}",
            ) from error
        _log.info("decided_again", reason=str(error))
        ready = await self._chain.take_back()
        opened = self._builder.opened
        given_up = [*ready, opened] if opened is not None else ready
        self._inbox.put_back([arrival for flush in given_up for arrival in flush.arrivals])
        before = dict(self._membership.shards)
        expected = self._chain.sequence - len(ready)
        lost = await self._load_ownership()
        stands = isinstance(error, BookStandsError) and self._chain.sequence == expected
        if not (stands and self._builder.undo_decided(ready, opened)):
            self._builder.forget_book()
        if lost:
            _log.warning("shards_lost", shards=sorted(lost))
            self._on_lost(lost)
        if self._membership.has_moved(before):
            raise TryAgainError("shards or positions are others now: beginning again")
        self._arrived += isinstance(error, FundsArrivedError)
        self._builder.is_careful = not isinstance(error, FundsArrivedError | ChainMovedError)
