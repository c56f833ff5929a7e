"""When a locked flush is decided, by whom it is locked, and what becomes of memory then."""

import asyncio
from collections.abc import Callable, Sequence

import structlog

from engine.errors import ConfigurationError, TooMuchError, TryAgainError
from engine.store.rows import Flush
from engine.store.worker_store import WorkerStore
from engine.worker.attempts import Attempts
from engine.worker.bounds import EXPIRIES_MAX, SET_ASIDE_SECONDS
from engine.worker.chain import Chain
from engine.worker.flush_builder import FlushBuilder
from engine.worker.flush_report import Phases
from engine.worker.inbox import Arrival, Inbox, Room, set_aside
from engine.worker.locked_flush import decide_locked
from engine.worker.membership import Membership
from engine.worker.replies import Reply
from engine.worker.set_aside_limit import HOLDS, SetAsideLimit

_log = structlog.get_logger()


class LockedDecider:
    """Locked flushes of a pipeline.

    Args:
        store: The ledger.
        inbox: Where entries are taken from a few at a time.
        chain: The worker's.
        builder: What is in memory.
        membership: The worker's shards.
        attempts: What came to nothing before.
        limit: How many entries of a shard may be set aside.
        on_committed: As of `Chain`.
        on_undecidable: Called with a shard of which no more may be, and why.
    """

    def __init__(
        self,
        store: WorkerStore,
        inbox: Inbox,
        chain: Chain,
        builder: FlushBuilder,
        membership: Membership,
        attempts: Attempts,
        limit: SetAsideLimit,
        on_committed: Callable[[Flush, list[Reply], Phases], None],
        on_undecidable: Callable[[int, str], None],
    ) -> None:
        self._store = store
        self._inbox = inbox
        self._tried_expiries = self._failed_expiries = False
        self._chain = chain
        self._builder = builder
        self._membership = membership
        self._attempts = attempts
        self._limit = limit
        self._on_committed = on_committed
        self._on_undecidable = on_undecidable

    async def decide_locked(
        self,
        arrivals: Sequence[Arrival],
        shards: set[int],
        *,
        read_sequence: bool = False,
        expiries_max: int | None = None,
    ) -> None:
        """Decide under the locks of all owners concerned; nothing is in flight.

        Args:
            arrivals: In order; perhaps none.
            shards: Whose owners are locked.
            read_sequence: Whether the number in the chain is read under the lock.
            expiries_max: How many holds expire at most, where fewer than usual.
        """
        now = asyncio.get_running_loop().time()
        if expiries_max is None:
            expiries_max = 0 if self._builder.skipped.all_stand else EXPIRIES_MAX
        result = await decide_locked(
            self._store,
            arrivals,
            shards,
            sequence=None if read_sequence else self._chain.sequence,
            time=self._builder.next_time(),
            owned=self._membership.shards,
            writing_shard=self._builder.book.writing_shard,
            shard_count=self._membership.shard_count,
            expiries_max=expiries_max,
            skipped=self._builder.skipped,
            mark=self._builder.waiting.mark,
        )
        self._on_committed(result.flush, result.replies, Phases(now, now, now))
        # Numbers reserved before are lower than that of the locked flush: no more of use.
        await self._chain.begin(result.flush.sequence + 1, result.next_number)
        self._builder.take_over_locked(result)

    async def decide_alone(
        self, arrivals: Sequence[Arrival], expiries_max: int | None = None
    ) -> None:
        """Where others kept coming first they are locked out, and all is read under the lock."""
        await self._builder.flush_all()
        # Whoever brings funds needs no lock of ours: it is theirs that keeps them out.
        everybody = set(range(self._membership.shard_count)) - self._membership.owned
        shards = everybody if self._attempts.arrived else set()
        await self.decide_locked(arrivals, shards, read_sequence=True, expiries_max=expiries_max)
        self._builder.forget_book()
        self._builder.begin_anew()

    async def decide_few(self, portion: int, transfers_max: int) -> None:
        """Look for the entry or hold that cannot be written: a few at a time, in turn.

        What is found is set aside. What was not decided is in the inbox again.

        Args:
            portion: How many; it is to blame where it is one.
            transfers_max: Of one flush.
        """
        await self._builder.flush_all()
        hold = await self._next_hold()
        is_due = hold is not None and not (self._tried_expiries and self._inbox)
        self._tried_expiries = is_due
        room = Room(transfers_max, entries=portion)
        arrivals = [] if is_due else self._inbox.take(room)
        if not (arrivals or is_due):
            return
        began = asyncio.get_running_loop().time()
        try:
            arrivals = await self._builder.park_entries(arrivals)
            await self.decide_alone(arrivals, portion if is_due else 0)
        except Exception as error:
            self._failed_expiries = is_due
            if portion == 1 and self._is_blamed(error):
                arrivals = self._set_aside(arrivals, error)
                if is_due and hold is not None:
                    self._set_hold_aside(hold, error)
            self._inbox.put_back(arrivals)
            raise
        # What failed last grows again by its own success, or once nothing of its kind is left.
        is_left = hold is not None if self._failed_expiries else bool(self._inbox)
        if self._failed_expiries is is_due or not is_left:
            self._attempts.grow(asyncio.get_running_loop().time() - began)

    def _set_aside(self, arrivals: Sequence[Arrival], error: Exception) -> list[Arrival]:
        """The entries as set aside; those that may not be are read again later.

        So are those that took too long: it may be Postgres that was slow.
        """
        now = asyncio.get_running_loop().time()
        reason = f"{type(error).__name__}: {error}"
        kept = []
        for arrival in arrivals:
            shard = arrival.entry.shard
            if isinstance(error, TooMuchError):
                entry_id = arrival.entry.position.entry_id
                self._on_undecidable(shard, f"its entry {entry_id} alone is too much: {error}")
            elif self._limit.take(shard, now):
                kept.append(_set_aside(arrival, reason))
            else:
                words = "too many of its entries cannot be decided; the last"
                self._on_undecidable(shard, f"{words}: {reason}")
        return kept

    def _set_hold_aside(self, hold: tuple[int, bytes], error: Exception) -> None:
        """Let a hold be that cannot expire; where it is one after the other, all for a while."""
        now = asyncio.get_running_loop().time()
        reason = f"{type(error).__name__}: {error}"
        if self._limit.take(HOLDS, now):
            self._builder.skipped[hold[1]] = hold[0]
            _log.error("hold_set_aside", hold=hold[1].hex(), reason=reason)
        else:
            self._builder.skipped.stand_until = now + SET_ASIDE_SECONDS
            _log.error("holds_stand", seconds=SET_ASIDE_SECONDS, reason=reason)

    async def _next_hold(self) -> tuple[int, bytes] | None:
        """When and which hold is to expire next, if one is due that was not set aside."""
        if self._builder.skipped.all_stand:
            return None
        skipped = self._builder.skipped
        since = {
            shard: progress.resolved_until for shard, progress in self._membership.shards.items()
        }
        until = self._builder.next_time()
        found = await self._store.load_expiring(since, until, len(skipped) + 1)
        return next((hold for hold in found.holds if hold[1] not in skipped), None)

    def _is_blamed(self, error: Exception) -> bool:
        if isinstance(error, TryAgainError | ConfigurationError):
            return self._attempts.blames(error)
        # A defect or a strange row: it comes from what is decided.
        return True


def _set_aside(arrival: Arrival, reason: str) -> Arrival:
    entry = arrival.entry
    _log.error("entry_set_aside", shard=entry.shard, entry=entry.position.entry_id, reason=reason)
    return set_aside(arrival, reason)
