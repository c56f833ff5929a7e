"""A worker: reads the streams of its shards, decides in order, flushes, tells.

A worker runs in sessions. A session loads what the worker owns and goes on from the
committed positions until anything fails: a server away, a number of its chain taken by
another, a conflict. Then all that is in memory is thrown away and the next session begins
from Postgres, which is the one truth. A session is one pipeline: while a flush is under
way the next is decided; one flush is in flight.
"""

import asyncio
import contextlib
import math
from collections import deque
from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING

import anyio
import structlog

from engine.aftermath import Aftermath, Told
from engine.book import Book
from engine.errors import (
    ConfigurationError,
    EngineError,
    InvariantBroken,
    LostOwnershipError,
    TryAgainError,
)
from engine.holds import DueHolds
from engine.inbox import Arrival, Inbox, understand
from engine.locked import Work, decide_locked, shards_concerned
from engine.nouns import ID_ZERO, MICROSECONDS, Transfer
from engine.rules import decide_batch, expire_hold
from engine.settings import WorkerSettings
from engine.store.connection import ConflictError
from engine.store.postgres import PostgresStore
from engine.store.rows import DeadLetter, Flush, Owned
from engine.streams import Entry, Streams

if TYPE_CHECKING:
    from engine.store.rows import Position

_log = structlog.get_logger()


class WorkerStatistics:
    """What a worker did since it started."""

    __slots__ = ("conflicts", "created", "flushes", "locked", "refused", "sessions", "unreadable")

    def __init__(self) -> None:
        self.sessions = self.flushes = self.locked = self.conflicts = 0
        self.created = self.refused = self.unreadable = 0


class Worker:
    """One worker with its own connections, its own shards and an id of its own.

    Args:
        store: The ledger; its `worker` is this worker's id.
        streams: The streams.
        shards: The shards to claim; None for all.
        clock: Microseconds since 1970.
        settings: Sizes and durations.
    """

    def __init__(
        self,
        store: PostgresStore,
        streams: Streams,
        shards: Collection[int] | None,
        clock: Callable[[], int],
        settings: WorkerSettings | None = None,
    ) -> None:
        self.store = store
        self.streams = streams
        self.settings = settings or WorkerSettings()
        self.statistics = WorkerStatistics()
        self.ready = asyncio.Event()
        """Set while all shards asked for are this worker's and are being read."""
        self.clock = clock
        self.wanted: set[int] = set() if shards is None else set(shards)
        self._all = shards is None
        self._stopping = asyncio.Event()
        self._session: Session | None = None
        self.shard_count = 0

    def stop(self) -> None:
        """Finish what is decided, give the shards back, end. `run` returns then."""
        self._stopping.set()
        if self._session is not None:
            self._session.inbox.wake.set()

    @property
    def stopping(self) -> bool:
        """Whether `stop` was called."""
        return self._stopping.is_set()

    async def run(self) -> None:
        """Work until `stop`.

        Raises:
            ConfigurationError: A server is not as it must be; retrying would not help.
            InvariantBroken: Something that cannot happen did; nothing of it is committed.
        """
        registered = False
        backoff = 0.0
        conflicts = 0
        while not self.stopping:
            flushes = self.statistics.flushes
            try:
                await self.store.open()
                await self.streams.open()
                if not registered:
                    self.shard_count = await self.store.shard_count()
                    if self._all:
                        self.wanted = set(range(self.shard_count))
                    self._check_wanted()
                    await self.store.register(self.settings.lease_seconds)
                    registered = True
                self._session = Session(self)
                await self._session.run()
                backoff = 0.0
            except (ConflictError, LostOwnershipError) as error:
                self.store.drop()
                self.statistics.conflicts += 1
                conflicts = 1 if self.statistics.flushes > flushes else conflicts + 1
                if conflicts > self.settings.conflicts_max:
                    raise InvariantBroken(
                        f"{conflicts} conflicts in a row without a flush in between: {error}",
                    ) from error
                _log.info("decided_again", reason=str(error))
            except TryAgainError as error:
                _log.warning("session_ended", reason=str(error), again_in_seconds=backoff)
                self.store.drop()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), backoff)
                backoff = min(self.settings.backoff_seconds_max, backoff * 2 + 0.02)
            finally:
                self.ready.clear()
                self._session = None
        await self._leave()

    def _check_wanted(self) -> None:
        beyond = sorted(shard for shard in self.wanted if not 0 <= shard < self.shard_count)
        if beyond:
            raise ConfigurationError(
                f"there is no shard {beyond[0]}: the ledger has {self.shard_count}, from 0",
            )

    async def _leave(self) -> None:
        try:
            await self.store.open()
            await self.store.release(self.clock())
            await self.store.expire()
        except TryAgainError as error:
            _log.warning("shards_not_released", reason=str(error))
        self.store.drop()
        await self.streams.close()


class OpenFlush:
    """What is decided since the last flush was sent."""

    __slots__ = ("dead_letters", "positions", "time", "told", "transfers")

    def __init__(self, time: int) -> None:
        self.time = time
        self.positions: dict[int, Position] = {}
        self.dead_letters: list[DeadLetter] = []
        self.told: list[Told] = []
        self.transfers = 0


class Session:
    """From a load of what is owned to the first failure. Used once."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._store = worker.store
        self._streams = worker.streams
        self._settings = worker.settings
        self.inbox = Inbox(worker.settings.inbox_transfers_max)
        self._aftermath = Aftermath(worker.streams)
        self._due = DueHolds()
        self._book = Book()
        self._owned: dict[int, Owned] = {}
        self._sequence = 0
        self._time = 0
        self._open: OpenFlush | None = None
        self._flight: asyncio.Task[None] | None = None

    # The session.

    async def run(self) -> None:
        """Work until `stop`, or until something fails; see `Worker.run`."""
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._beat)
                tasks.start_soon(self._aftermath.run)
                complete = await self._take_over()
                await self._look_below()
                tasks.start_soon(self._read)
                if complete:
                    self._worker.ready.set()
                    await self._work()
                else:
                    # Work a moment with what could be had, then try for the rest again.
                    await self._work(seconds_max=self._settings.claim_seconds)
                await self._drain()
                with anyio.move_on_after(self._settings.lease_seconds):
                    await self._aftermath.finish()
                tasks.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            raise _gravest(group) from group
        finally:
            if self._flight is not None:
                # A flush under way is waited for whatever happens: it may be committed.
                with anyio.CancelScope(shield=True):
                    await asyncio.wait([self._flight])
                    self._flight.exception()

    async def _take_over(self) -> bool:
        """Claim, then load what the book rests on. Returns whether all wanted is owned."""
        worker = self._worker
        worker.statistics.sessions += 1
        taken = await self._store.claim(worker.wanted, worker.clock())
        if taken:
            _log.info("shards_claimed", shards=taken)
        ownership = await self._store.load_ownership()
        self._sequence = ownership.sequence
        self._owned = ownership.shards
        self._book = Book(self._sequence + 1)
        self._time = max((owned.time for owned in self._owned.values()), default=0)
        return worker.wanted <= self._owned.keys()

    async def _look_below(self) -> None:
        """Decide what an older Redis brought back below the positions, then move it forward."""
        for shard, owned in self._owned.items():
            while True:
                entries = await self._streams.read_below(shard, owned.position)
                if not entries:
                    await self._streams.move_forward(shard, owned.position)
                    if not await self._streams.read_below(shard, owned.position):
                        break
                    continue
                await self._decide_below(entries)

    async def _decide_below(self, entries: list[Entry]) -> None:
        arrivals = [understand(entry, self._streams.prefix) for entry in entries]
        ids = {t.id for arrival in arrivals for t in arrival.transfers}
        await self._load_known(ids)
        undecided = []
        for arrival in arrivals:
            if all(self._book.known(t.id) for t in arrival.transfers) and not arrival.unreadable:
                continue
            _log.warning(
                "entry_below_position",
                shard=arrival.entry.shard,
                entry=arrival.entry.position.entry_id,
            )
            undecided.append(arrival)
        await self._decide(undecided)
        await self._drain()
        await self._aftermath.finish()
        await self._streams.remove(entries)

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(self._settings.lease_seconds / 3)
            await self._store.beat(self._settings.lease_seconds)

    async def _read(self) -> None:
        at = {shard: owned.position for shard, owned in self._owned.items()}
        while not self._worker.stopping:
            if not at:
                await asyncio.sleep(self._settings.block_ms / 1000)
                continue
            entries = await self._streams.read(at, self._settings.block_ms)
            for entry in entries:
                at[entry.shard] = entry.position
            # In pieces, so that the inbox stays near its bound and others get their turn.
            for start in range(0, len(entries), 64):
                piece = entries[start : start + 64]
                await self.inbox.put([understand(e, self._streams.prefix) for e in piece])
                await asyncio.sleep(0)

    # The pipeline.

    async def _work(self, seconds_max: float = math.inf) -> None:
        """Decide and flush, each as soon as it can; returns when stopping or time is up."""
        limit = self._settings.flush_transfers_max
        ends_at = asyncio.get_running_loop().time() + seconds_max
        while not self._worker.stopping and asyncio.get_running_loop().time() < ends_at:
            self.inbox.wake.clear()
            room = limit - (self._open.transfers if self._open else 0)
            if self.inbox and room > 0:
                await self._decide(self.inbox.take(room))
            elif self._hold_is_due():
                await self._decide([])
            if self._open is not None and self._flight is None:
                self._start_flush()
            elif self._flight is not None and self._flight.done():
                await self._land()
                continue
            full = self._open is not None and self._open.transfers >= limit
            if not self.inbox or full:
                await self._wait()

    async def _wait(self) -> None:
        """Until an entry arrives, the flush lands, a hold lapses, or a moment has passed."""
        seconds = self._settings.block_ms / 1000
        next_at = self._due.next_at()
        if next_at is not None:
            seconds = min(seconds, max(next_at - self._worker.clock(), 0) / MICROSECONDS + 0.001)
        waits = [asyncio.ensure_future(self.inbox.wake.wait())]
        try:
            if (
                self._flight is not None
                and self._open is not None
                and (self._open.transfers >= self._settings.flush_transfers_max)
            ):
                waits.pop().cancel()
            await asyncio.wait(
                [*waits, *([self._flight] if self._flight else [])],
                timeout=seconds,
                return_when=asyncio.FIRST_COMPLETED,
            )
        finally:
            for wait in waits:
                wait.cancel()

    def _hold_is_due(self) -> bool:
        now = self._worker.clock()
        if now > self._due.horizon:
            return bool(self._owned)
        next_at = self._due.next_at()
        return next_at is not None and next_at <= now

    async def _drain(self) -> None:
        """Flush all that is decided and see it committed."""
        await self._land()
        if self._open is not None:
            self._start_flush()
            await self._land()

    def _start_flush(self) -> None:
        opened, self._open = self._open, None
        if opened is None:
            raise InvariantBroken("there is nothing open to flush")
        changes = self._book.take_changes()
        if not (changes or opened.positions or opened.dead_letters):
            return
        flush = Flush(
            self._sequence + 1, opened.time, changes, opened.positions, opened.dead_letters
        )
        self._flight = asyncio.create_task(self._fly(flush, opened.told))

    async def _fly(self, flush: Flush, told: list[Told]) -> None:
        await self._store.flush(flush)
        self._committed(flush, told)

    def _committed(self, flush: Flush, told: list[Told]) -> None:
        self._sequence = flush.sequence
        for shard, position in flush.positions.items():
            self._owned[shard] = Owned(position, flush.time)
        statistics = self._worker.statistics
        statistics.flushes += 1
        statistics.unreadable += len(flush.dead_letters)
        for one in told:
            refused = sum(1 for outcome in one.outcomes or () if outcome)
            statistics.refused += refused
            statistics.created += len(one.outcomes or ()) - refused
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
        self._book.evict(self._settings.accounts_max, self._sequence)

    # Deciding.

    async def _decide(self, arrivals: Iterable[Arrival]) -> None:
        """Decide in order; what is not wholly this worker's own goes by a locked flush."""
        queue = deque(arrivals)
        if self._open is None:
            await self._open_flush()
        while queue:
            await self._load([t for arrival in queue for t in arrival.transfers])
            while queue and self._is_own(queue[0]):
                self._decide_own(queue.popleft())
            if queue:
                await self._decide_locked(list(queue), [])
                return

    async def _open_flush(self) -> None:
        """Begin the next flush at a time above all before, and expire what is due by then."""
        time = max(self._worker.clock(), self._time + 1)
        if time > self._due.horizon:
            await self._watch_holds(time + self._settings.horizon_seconds * MICROSECONDS)
        self._time = time
        due = self._due.take(time)
        opened = OpenFlush(time)
        if due:
            ids = [hold_id for _, _, hold_id in due]
            await self._load_known(ids)
            await self._load_hold_accounts(ids)
            if not all(self._is_own_hold(hold_id) for hold_id in ids):
                await self._decide_locked([], ids)
                await self._open_flush()
                return
            for _, shard, hold_id in due:
                hold = self._book.known(hold_id)
                if hold is not None and hold.status == hold.status.pending:
                    expire_hold(self._book, hold)
                    opened.positions[shard] = self._owned[shard].position
        self._open = opened

    async def _watch_holds(self, horizon: int) -> None:
        since = {shard: max(owned.time, self._due.horizon) for shard, owned in self._owned.items()}
        found = await self._store.load_due(since, horizon)
        self._due.horizon = horizon
        for one in found:
            self._due.add(*one)

    async def _load(self, transfers: Iterable[Transfer]) -> None:
        transfers = list(transfers)
        ids = {t.id for t in transfers} | {t.pending_id for t in transfers}
        ids.discard(ID_ZERO)
        await self._load_known(ids)
        await self._load_hold_accounts(ids, transfers)

    async def _load_known(self, ids: Iterable[bytes]) -> None:
        missing = self._book.missing_ids(ids)
        if missing:
            for known in await self._store.load_known(missing):
                self._book.add_known(known)

    async def _load_hold_accounts(
        self, ids: Iterable[bytes], transfers: Iterable[Transfer] = ()
    ) -> None:
        accounts = set()
        for t in transfers:
            accounts |= {t.debit_account_id, t.credit_account_id}
        for one in ids:
            known = self._book.known(one)
            if known is not None and known.status:
                accounts |= {known.transfer.debit_account_id, known.transfer.credit_account_id}
        missing = self._book.missing_accounts(accounts)
        if missing:
            for account in await self._store.load_accounts(missing):
                self._book.add_account(account)

    def _is_own(self, arrival: Arrival) -> bool:
        if len(self._owned) == self._worker.shard_count:
            return True
        concerned = shards_concerned(self._book, arrival.transfers, self._worker.shard_count)
        return concerned <= self._owned.keys()

    def _is_own_hold(self, hold_id: bytes) -> bool:
        hold = self._book.known(hold_id)
        return hold is None or (
            shards_concerned(self._book, [hold.transfer], self._worker.shard_count)
            <= self._owned.keys()
        )

    def _decide_own(self, arrival: Arrival) -> None:
        opened = self._open
        if opened is None:
            raise InvariantBroken("no flush is open to decide into")
        entry = arrival.entry
        if not entry.below:
            opened.positions[entry.shard] = entry.position
        elif entry.shard not in opened.positions:
            opened.positions[entry.shard] = self._owned[entry.shard].position
        if arrival.unreadable is not None:
            letter = DeadLetter(
                entry.shard, entry.position, arrival.unreadable.reason, entry.fields
            )
            opened.dead_letters.append(letter)
            opened.told.append(Told(arrival, ()))
            return
        outcomes = decide_batch(self._book, arrival.transfers, entry.shard, opened.time)
        self.watch(arrival)
        opened.transfers += len(outcomes)
        opened.told.append(Told(arrival, outcomes))

    def watch(self, arrival: Arrival) -> None:
        """Watch the holds of a decided entry that may lapse."""
        for transfer in arrival.transfers:
            if transfer.timeout:
                known = self._book.known(transfer.id)
                if known is not None and known.expires_at:
                    self._due.add(known.expires_at, known.shard, transfer.id)

    async def _decide_locked(self, arrivals: list[Arrival], due: list[bytes]) -> None:
        """Finish the own flush, then decide under the locks of all owners concerned."""
        await self._drain()
        work = Work(arrivals, due)
        result = await decide_locked(
            self._store,
            work,
            sequence=self._sequence + 1,
            time=max(self._worker.clock(), self._time + 1),
            owned=self._owned,
            shard_count=self._worker.shard_count,
        )
        self._time = result.flush.time
        self._worker.statistics.locked += 1
        own = {s: p for s, p in result.flush.positions.items() if s in self._owned}
        result.flush.positions = own
        self._committed(result.flush, result.told)
        # The book had no part in it: what it holds of these accounts and ids is old now.
        self._book = Book(self._sequence + 1)
        for known in result.timed:
            self._due.add(known.expires_at, known.shard, known.transfer.id)


def _gravest(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The one error of several to act upon."""
    errors: list[BaseException] = []
    stack: list[BaseException] = [group]
    while stack:
        error = stack.pop()
        if isinstance(error, BaseExceptionGroup):
            stack.extend(error.exceptions)
        else:
            errors.append(error)
    for kind in (InvariantBroken, ConfigurationError, ConflictError, TryAgainError, EngineError):
        for error in errors:
            if isinstance(error, kind):
                return error
    return errors[0]
