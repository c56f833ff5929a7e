"""A worker: reads the streams of its shards, decides in order, flushes, tells.

A worker runs in sessions. A session loads what the worker owns and goes on from the
committed positions until a server is away. Then all that is in memory is thrown away and
the next session begins from Postgres, which is the one truth.
"""

import asyncio
import contextlib
import os
import uuid
from collections.abc import Callable, Collection
from typing import Final

import structlog

from engine.book.id_table import key_hashes
from engine.errors import ClockError, ConfigurationError, EngineError, TryAgainError
from engine.settings import WorkerSettings
from engine.store.worker_store import WorkerStore
from engine.streams.streams import Streams
from engine.worker.flush_report import FlushReport, Subscriber
from engine.worker.membership import Membership
from engine.worker.outage import Outage
from engine.worker.session import Session
from engine.worker.statistics import WorkerStatistics

WAITS_LENGTH: Final = 300
"""Characters of what a worker says that it waits for."""

WAITS_SECONDS: Final = 15.0
"""What a worker said that it waits for is believed for so long: above one attempt to connect."""

_log = structlog.get_logger()

# Once a process, before any worker holds an id: see `key_hashes`.
key_hashes(os.urandom(16))


class Worker:
    """One worker with its own connections, its own shards and an id of its own.

    Args:
        store: The ledger; its `worker` is this worker's id.
        streams: The streams.
        shards: The shards to work on, those and only those; None for its share of all.
        clock: Microseconds since 1970.
        settings: Sizes and durations.
    """

    def __init__(
        self,
        store: WorkerStore,
        streams: Streams,
        shards: Collection[int] | None,
        clock: Callable[[], int],
        settings: WorkerSettings | None = None,
    ) -> None:
        self.store = store
        self.streams = streams
        self.settings = settings or WorkerSettings()
        self.clock = clock
        self.membership = Membership(shards)
        self.statistics = WorkerStatistics()
        self._subscribers: list[Subscriber] = [self.statistics.add_flush]
        self._end_subscribers: list[Callable[[EngineError], None]] = []
        self._stopping = asyncio.Event()
        self._session: Session | None = None
        self._has_begun = False
        self._waits = False
        """Whether it was said in Postgres that this worker waits."""
        self._outage = Outage("session_ended", "still_away", "working_again")

    @property
    def owned(self) -> set[int]:
        """Its shards, as far as it knows."""
        return self.membership.owned

    @property
    def ready(self) -> asyncio.Event:
        """Set while all shards that it is to have are this worker's and are being read."""
        return self.membership.ready

    @property
    def inbox_transfers(self) -> int:
        """Transfers that are read and wait to be decided."""
        return 0 if self._session is None else self._session.inbox.transfers

    @property
    def accounts(self) -> int:
        """Accounts that are kept in memory."""
        return 0 if self._session is None else self._session.accounts

    @property
    def stopping(self) -> bool:
        """Whether `stop` was called."""
        return self._stopping.is_set()

    def subscribe(self, subscriber: Subscriber) -> None:
        """Have each flush reported from now on."""
        self._subscribers.append(subscriber)

    def subscribe_to_ends(self, subscriber: Callable[[EngineError], None]) -> None:
        """Have each session that a server ended, or others in its way, told with the reason."""
        self._end_subscribers.append(subscriber)

    def _tell_end(self, error: EngineError) -> None:
        self.ready.clear()
        for subscriber in self._end_subscribers:
            subscriber(error)

    def _report(self, report: FlushReport) -> None:
        for subscriber in self._subscribers:
            subscriber(report)

    def stop(self) -> None:
        """Finish what is decided, give the shards back, end. `run` returns then."""
        self._stopping.set()
        if self._session is not None:
            self._session.inbox.wake.set()

    def abandon(self) -> None:
        """End at once, as if killed: what is under way is cut off, whatever becomes of it.

        Whoever runs the worker cancels it next. A COMMIT that is waited for may be done or not.
        """
        self._stopping.set()
        if self._session is not None:
            self._session.abandon()
        self.store.drop()

    async def run(self) -> None:
        """Work until `stop`.

        Raises:
            ConfigurationError: A server is not as it must be, at the start. Once it was as it
                must be the worker says what is wrong, and waits: somebody is at it.
            InvariantBroken: Something that cannot happen did; nothing of it is committed.
        """
        registered = False
        backoff = 0.0
        while not self._stopping.is_set():
            flushes = self.statistics.flushes
            try:
                await self._open_servers()
                if not registered:
                    await self._register()
                    registered = True
                await self._note_wait_over()
                self._session = self._begin_session()
                await self._session.run()
            except (TryAgainError, ConfigurationError) as error:
                if not isinstance(error, TryAgainError):
                    if not self._has_begun:
                        raise
                    await self._note_wait(str(error))
                if self.statistics.flushes > flushes:
                    backoff = 0.0
                now = asyncio.get_running_loop().time()
                self._outage.note(str(error), now)
                if self._outage.is_repeating(now):
                    often = f"its sessions end again and again, {self._outage.describe(now)}"
                    await self._note_wait(f"{often}; the last: {error}")
                self._tell_end(error)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), backoff)
                backoff = min(self.settings.backoff_seconds_max, backoff * 2 + 0.02)
            finally:
                self.store.drop()
                await self.streams.close()
                self.ready.clear()
                self._session = None
        if not self.membership.left:
            await self._leave()

    async def _open_servers(self) -> None:
        """Connect to both, and see that the ledger is as it must be; what is waited for is said."""
        await self.store.open()
        try:
            await self.store.check_ledger(self.clock)
        except ClockError as error:
            await self._note_wait(str(error))
            raise
        try:
            await self.streams.open()
        except TryAgainError as error:
            await self._note_wait(str(error))
            raise

    async def _note_wait(self, what: str) -> None:
        """Say in Postgres what is waited for, where that can be done."""
        self._waits = True
        with contextlib.suppress(TryAgainError, ConfigurationError, TimeoutError):
            async with asyncio.timeout(self.settings.backoff_seconds_max):
                await self.store.ownership.note_wait(what[:WAITS_LENGTH], WAITS_SECONDS)

    async def _note_wait_over(self) -> None:
        """Say that nothing is waited for, unless that was said in vain lately."""
        now = asyncio.get_running_loop().time()
        if self._waits and not self._outage.is_repeating(now):
            await self.store.ownership.note_wait("", 0.0)
            self._waits = False

    def _begin_session(self) -> Session:
        return Session(
            self.store,
            self.streams,
            self.membership,
            self.statistics,
            self.settings,
            self.clock,
            self._stopping,
            self._report,
            self._note_begun,
        )

    def _note_begun(self) -> None:
        """A session has loaded what it needs and reads: both servers are there."""
        self._has_begun = True
        self._outage.end(asyncio.get_running_loop().time())

    async def _register(self) -> None:
        self.streams.ledger_id = str(uuid.UUID(bytes=await self.store.ledger_identity()))
        await self.streams.check_server()
        membership = self.membership
        membership.shard_count = count = await self.store.shard_count()
        beyond = sorted(shard for shard in membership.listed or () if not 0 <= shard < count)
        if beyond:
            raise ConfigurationError(
                f"there is no shard {beyond[0]}: the ledger has {count}, from 0",
            )
        await self.store.ownership.register(self.settings.lease_seconds, membership.listed)

    async def _leave(self) -> None:
        """Say goodbye, where the last session could not."""
        try:
            await self.store.open()
            ownership = await self.store.load_ownership()
            times = [progress.time for progress in ownership.shards.values()]
            if ownership.shards:
                await self.store.ownership.release(
                    ownership.shards,
                    owned=ownership.shards,
                    time=max([self.clock(), *(time + 1 for time in times)]),
                    leaving=True,
                )
            await self.store.ownership.expire_lease()
        except (TryAgainError, ConfigurationError) as error:
            _log.warning("shards_not_released", reason=str(error))
        self.store.drop()
