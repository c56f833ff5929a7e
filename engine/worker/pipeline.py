"""The pipeline of a worker: while a flush is under way the next is decided.

Theory of operation
-------------------
Four machines work on one memory, and one task drives them, so that nothing changes under anybody's
hands but where it waits itself:

    inbox          what was read and is not decided              `take`, `put_back`
    flush builder  the open flush, book, expiries, time          `decide_entries`, `seal_opened`
    chain          a flush that is ready, one in flight          `seal`, `send`, `await_commit`
    attempts       how many came to nothing in a row             `redo_decided`

What triggers a step (`advance_flushes`): an entry arrives, the flush in flight ends, a hold is due.
A step takes the end of the flush in flight, decides what is in the inbox as far as it fits, and
makes ready and sends what it may. `chain` has the states of a flush as a table.

Three ways lead from an entry to a commit:

    free      all of it is this worker's: decided ahead, while another flush is in flight
    locked    it depends on accounts or holds of other workers: all that is decided is flushed,
              the owners' rows are locked, all is read afresh (`locked_flush`); those entries of its
              stream that came after it wait for it
    redone    another came first: all that is decided and not committed goes back to the inbox, as
              if just read, and after a few times in a row it goes by locked flushes alone, or,
              where an entry or a hold of it is to blame, by ever smaller ones (`attempts`)

What is awkward:

- To decide is to change the book, before anything is committed. So a conflict makes the whole book
  worthless, but where it is known to stand (`BookStandsError`): then what was decided is taken out.
- Everything that waits can find that another came first: looking up, deciding, sealing, landing.
  All of it raises one of `ATTEMPT_FAILED`, and three methods of the pipeline handle it.
- A flush's time is set when it is opened, and what is looked up for it may turn out to be later.
"""

import asyncio
from collections.abc import Callable, Collection
from typing import Final

import structlog

from engine.errors import (
    BookStandsError,
    ChainMovedError,
    ConfigurationError,
    EngineError,
    FundsArrivedError,
    LockHeldError,
    TooMuchError,
    TryAgainError,
)
from engine.settings import WorkerSettings
from engine.store.rows import Flush, OwnedShards
from engine.store.worker_store import WorkerStore
from engine.worker.attempts import ATTEMPT_FAILED, Attempts, UndecidableError, plain_words
from engine.worker.chain import Chain
from engine.worker.claims import Claims
from engine.worker.flush_builder import FlushBuilder
from engine.worker.flush_report import FlushReport, Phases, report_flush
from engine.worker.inbox import Inbox, Room
from engine.worker.locked_decider import LockedDecider
from engine.worker.membership import Membership
from engine.worker.open_flush import split_at_locks
from engine.worker.outage import Outage
from engine.worker.replies import Replier, Reply
from engine.worker.statistics import WorkerStatistics
from engine.worker.waiting_room import WaitingRoom

_log = structlog.get_logger()

AHEAD_TRANSFERS_MIN = 256
"""While a flush is under way fewer than these wait: one by one each would cost as much CPU."""

SHORT_TRANSFERS_MAX: Final = 512
"""In a short flush."""


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
        on_standing: As of `WaitingRoom`.
        on_undecidable: Called with a shard whose entries cannot be decided, and why.
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
        on_standing: Callable[[Collection[int]], None],
        on_undecidable: Callable[[int, str], None],
    ) -> None:
        self._store = store
        self._inbox = inbox
        self._replier = replier
        self._membership = membership
        self._statistics = statistics
        self._settings = settings
        self._on_report = on_report
        self._on_lost = on_lost
        self._chain = Chain(store, membership, self._finish_flush, lambda _: inbox.wake.set())
        self.waiting = WaitingRoom(store, on_standing)
        self._builder = FlushBuilder(store, self._chain, membership, self.waiting, settings, clock)
        self._claims = Claims(store, self._chain, self._builder, membership)
        self._attempts = Attempts(settings.conflicts_max, settings.backoff_seconds_max)
        self._locked = LockedDecider(
            store,
            inbox,
            self._chain,
            self._builder,
            membership,
            self._attempts,
            statistics.set_aside_limit,
            self._finish_flush,
            on_undecidable,
        )
        self._lock_wait = Outage("waiting_for_a_lock", "still_waiting_for_a_lock", "lock_is_free")
        self._undecided = 0
        self.in_short = False
        """Whether shards are about to change hands, which waits for what is under way: flushes
        are short then, and nothing is decided ahead."""

    async def load(self) -> None:
        """Begin from what is committed, with an empty book."""
        await self._load_ownership()
        self._builder.forget_book()

    async def _load_ownership(self) -> tuple[OwnedShards, set[int]]:
        """Begin from what is committed; returns it, and the shards that others took since."""
        ownership = await self._store.load_ownership()
        lost = self._membership.load_shards(ownership.shards)
        await self._chain.begin(ownership.sequence + 1, ownership.number)
        await self.waiting.adopt(ownership.freezes, ownership.shards, self._membership.shard_count)
        self._builder.begin_anew()
        return ownership, lost

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
                await self._decide_next()
            # A full flush is made ready while another is in flight; one that is not full may
            # still grow, until there is nothing in flight.
            is_free = chain.in_flight is None
            if not chain.is_ready and (self._is_full() or is_free or not decide):
                builder.seal_opened()
            if chain.is_ready and is_free:
                chain.send()
            elif self._is_full() or not decide:
                await builder.await_commit()
        except ATTEMPT_FAILED as error:
            await self.redo_decided(error, self._undecided)
        except (TryAgainError, ConfigurationError):
            raise
        except Exception as error:
            # A defect or a strange row: what is to blame is looked for, and set aside.
            if not (self._undecided or self.is_busy()):
                raise
            _log.error("undecidable", reason=f"{type(error).__name__}: {error}", exc_info=error)
            await self.redo_decided(UndecidableError(str(error)), self._undecided)
        finally:
            self._undecided = 0

    @property
    def has_work(self) -> bool:
        """Whether it is time to decide: while a flush is under way, only what is worth a start."""
        if self._chain.in_flight is None:
            return bool(self._inbox)
        if self._attempts.portion is not None:
            return False
        return not self.in_short and self._inbox.transfers >= AHEAD_TRANSFERS_MIN

    @property
    def accounts(self) -> int:
        """Accounts that are kept in memory."""
        return self._builder.book.accounts

    def is_busy(self) -> bool:
        """Whether anything is decided and not yet seen committed."""
        return self._builder.is_busy()

    def _room(self) -> Room:
        """What still fits into the open flush, or into the next."""
        most = SHORT_TRANSFERS_MAX if self.in_short else self._settings.flush_transfers_max
        opened = self._builder.opened
        return Room(most) if opened is None else opened.room_up_to(most)

    def _is_full(self) -> bool:
        return self._builder.opened is not None and self._room().is_full

    async def wait_for_work(self) -> None:
        """Until an entry arrives, the flush lands, a hold expires, or a moment has passed."""
        seconds = self._settings.block_ms / 1000
        to_expiry = self._builder.seconds_to_expiry()
        if to_expiry is not None:
            seconds = min(seconds, to_expiry + 0.001)
        wake = self._inbox.wake
        # A task for each wait would cost as much as to decide a transfer: all wakes by one event.
        timer = asyncio.get_running_loop().call_later(seconds, wake.set)
        try:
            await wake.wait()
        finally:
            timer.cancel()

    def _finish_flush(self, flush: Flush, replies: list[Reply], phases: Phases) -> None:
        """A flush is committed: everybody hears of it."""
        self._membership.commit(flush)
        if flush.waiting or flush.released:
            self.waiting.commit(flush)
        now = asyncio.get_running_loop().time()
        self._on_report(report_flush(flush, replies, phases, now, self._attempts.conflicts))
        self._attempts.succeed()
        self._lock_wait.end(now)
        if replies:
            self._replier.add(replies)

    async def finish_decided(self) -> None:
        """See all committed that is decided, or back in the inbox."""
        while self.is_busy():
            await self.advance_flushes(decide=False)

    async def close(self) -> None:
        """Wait for a flush under way, whatever becomes of it: it may be committed."""
        await self._chain.close()

    def abandon(self) -> None:
        """Wait for nothing that is under way."""
        self._chain.abandon()

    # Shards come and go.

    async def claim_shards(self, shards: Collection[int]) -> None:
        """See all committed, then claim; as `Claims.claim_shards`, but others may come first."""
        try:
            await self.finish_decided()
            await self._claims.claim_shards(shards)
        except ATTEMPT_FAILED as error:
            await self.redo_decided(error)

    async def release_shards(
        self, shards: Collection[int], paused_seconds: float, *, leaving: bool = False
    ) -> bool:
        """Release, as `Claims.release_shards`; False where others came first."""
        try:
            await self._claims.release_shards(shards, paused_seconds, leaving=leaving)
        except ATTEMPT_FAILED as error:
            await self.redo_decided(error)
            return False
        return True

    # Deciding.

    async def _decide_next(self) -> None:
        """Decide what comes next, in order; what is not taken in is in the inbox again."""
        portion = self._attempts.portion
        if portion is not None:
            # What is attempted is known, also where nothing of it stands in the open flush.
            self._undecided = portion
            await self._locked.decide_few(portion, self._settings.flush_transfers_max)
            return
        undecided = self._inbox.take(self._room())
        try:
            undecided = await self._builder.park_entries(undecided)
            if self._attempts.is_locked:
                await self._locked.decide_alone(undecided)
                return
            locks = await self._builder.decide_entries(undecided)
            if not locks:
                return
            free, behind = split_at_locks(undecided, locks)
            if free and not await self._builder.decide_entries(free):
                undecided = behind
            await self._builder.flush_all()
            shards = {shard for found in locks.values() for shard in found}
            await self._locked.decide_locked(undecided, shards)
        except Exception:
            self._inbox.put_back(undecided)
            self._undecided = len(undecided)
            raise

    # Redoing.

    async def redo_decided(self, error: EngineError, undecided: int = 0) -> None:
        """An attempt came to nothing: forget what was decided, and begin from the entries again.

        Args:
            error: Why.
            undecided: Entries of it that are in the inbox again.
        """
        if isinstance(error, LockHeldError):
            self._lock_wait.note(str(error), asyncio.get_running_loop().time())
        elif not isinstance(error, TooMuchError):
            _log.info("decided_again", reason=plain_words(error))
        ready = await self._chain.take_back()
        opened = self._builder.opened
        given_up = [*ready, opened] if opened is not None else ready
        self._inbox.put_back([arrival for flush in given_up for arrival in flush.arrivals])
        if isinstance(error, TooMuchError):
            # What was under way may be stuck in a connection: then there is another.
            await self._store.open()
        before = dict(self._membership.shards)
        expected = self._chain.sequence - len(ready)
        mark = self.waiting.mark
        ownership, lost = await self._load_ownership()
        # Nothing but freezes and thaws came in between.
        is_freeze = isinstance(error, ChainMovedError) and ownership.freezes != mark
        stands = (is_freeze or isinstance(error, BookStandsError)) and ownership.written < expected
        seconds = 0.0
        if not (is_freeze and stands):
            self._statistics.conflicts += 1
            size = undecided + sum(flush.size for flush in given_up)
            seconds = self._attempts.fail(error, size)
            if isinstance(error, TooMuchError):
                portion = self._attempts.portion
                _log.error("flush_shrinks", reason=str(error), entries=size, next_entries=portion)
        if not (stands and self._builder.undo_decided(ready, opened)):
            self._builder.forget_book()
        if lost:
            _log.warning("shards_lost", shards=sorted(lost))
            self._on_lost(lost)
        if self._membership.has_moved(before):
            raise TryAgainError("shards or positions are others now: beginning again")
        self._builder.is_careful = not isinstance(error, FundsArrivedError | ChainMovedError)
        await asyncio.sleep(seconds)
