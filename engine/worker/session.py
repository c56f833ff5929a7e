"""A session of a worker: from a load of what it owns to the first server that is away.

Shards come and go in between: two tasks look around, keep the worker alive and say what is
to be done; the one that decides does it, when nothing is under way.
"""

import asyncio
import contextlib
from collections.abc import Callable, Collection

import anyio
import structlog

from engine.errors import (
    ChainMovedError,
    ConfigurationError,
    EngineError,
    InvariantBroken,
    TryAgainError,
    errors_of,
)
from engine.patience import within
from engine.settings import WorkerSettings
from engine.store.ledger_checks import CHECK_SECONDS
from engine.store.worker_store import WorkerStore
from engine.streams.streams import Streams
from engine.worker.flush_report import FlushReport
from engine.worker.inbox import Inbox
from engine.worker.intake import Intake
from engine.worker.membership import Membership
from engine.worker.pipeline import Pipeline
from engine.worker.repair import Repair
from engine.worker.replies import Replier
from engine.worker.standstill import Standstill
from engine.worker.statistics import WorkerStatistics
from shards.placement import Step, next_step

_log = structlog.get_logger()


class Session:
    """One session. Used once.

    Args:
        store: The ledger, open.
        streams: The streams, open.
        membership: Which shards the worker has; it outlives the session.
        statistics: Counted up.
        settings: Sizes and durations.
        clock: Microseconds since 1970.
        stopping: Set when the worker is to end.
        on_report: Called with the report of each flush.
        on_begun: Called once streams are read.
    """

    def __init__(
        self,
        store: WorkerStore,
        streams: Streams,
        membership: Membership,
        statistics: WorkerStatistics,
        settings: WorkerSettings,
        clock: Callable[[], int],
        stopping: asyncio.Event,
        on_report: Callable[[FlushReport], None],
        on_begun: Callable[[], None],
    ) -> None:
        self._store = store
        self._streams = streams
        self._membership = membership
        self._statistics = statistics
        self._settings = settings
        self._clock = clock
        self._stopping = stopping
        self._on_begun = on_begun
        self.inbox = Inbox(settings.inbox_transfers_max)
        self._intake = Intake(streams, self.inbox, settings.block_ms, statistics.unread)
        self._standstill = Standstill(
            store, self.inbox, self._intake, statistics.unread, streams.prefix, self._begin
        )
        self._replier = Replier(streams)
        self._pipeline = Pipeline(
            store,
            self.inbox,
            self._replier,
            membership,
            statistics,
            settings,
            clock,
            on_report,
            self._drop_lost,
            self._standstill.stand_still,
            self._stand,
        )
        self._repair = Repair(
            streams, store, self.inbox, self._intake, self._pipeline, self._replier, membership
        )
        self._step: Step | None = None
        self._newest_freeze = 0
        self._has_lost = False
        self._stepped = asyncio.Event()

    async def run(self) -> None:
        """Work until the worker stops, or until a server is away; see `Worker.run`."""
        self._statistics.sessions += 1
        host = asyncio.current_task()
        assert host is not None
        cancels = host.cancelling()
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._send_heartbeats)
                tasks.start_soon(self._terminate_blockers)
                tasks.start_soon(self._check_ledger)
                tasks.start_soon(self._replier.run)
                tasks.start_soon(self._replier.large.run)
                await self._pipeline.load()
                await self._begin(self._membership.owned)
                self._on_begun()
                tasks.start_soon(self._intake.run)
                tasks.start_soon(self._repair.run)
                tasks.start_soon(self._watch)
                await self._work()
                await self._release(self._membership.owned, leaving=True)
                await self._await_told(self._settings.lease_seconds)
                tasks.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            # What breaks on the way out of a cancellation is not what ended it.
            if host.cancelling() > cancels:
                raise asyncio.CancelledError from group
            raise _gravest(group) from group
        finally:
            with anyio.CancelScope(shield=True):
                await self._pipeline.close()

    @property
    def accounts(self) -> int:
        """Accounts that are kept in memory."""
        return self._pipeline.accounts

    def abandon(self) -> None:
        """Wait for nothing that is under way."""
        self._pipeline.abandon()

    async def _work(self) -> None:
        """Decide and flush, each as soon as it can, until stopping."""
        while not self._stopping.is_set():
            self.inbox.wake.clear()
            await self._pipeline.advance_flushes()
            if self._step is not None:
                await self._take_step(self._step)
            if self._newest_freeze > self._pipeline.waiting.mark.newest:
                await self._pipeline.redo_decided(ChainMovedError("something is frozen or thawed"))
            if self._has_lost:
                self._has_lost = False
                await self._pipeline.redo_decided(ChainMovedError("shards are another's"))
            if self._repair.is_due:
                await self._repair.mend()
            if self._pipeline.waiting.standing:
                await self._standstill.advance(self._pipeline)
            if not self._pipeline.has_work:
                await self._pipeline.wait_for_work()

    # Being alive, and looking around.

    async def _send_heartbeats(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._store.ownership.heartbeat(self._settings.lease_seconds)
            measured = self._statistics.load.measure(self._membership.owned, loop.time())
            await self._store.ownership.record_loads(*measured)
            await asyncio.sleep(self._settings.lease_seconds / 3)

    async def _terminate_blockers(self) -> None:
        while True:
            await asyncio.sleep(self._settings.claim_seconds)
            await self._store.ownership.terminate_blockers()

    async def _check_ledger(self) -> None:
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            await self._store.check_ledger(self._clock)

    async def _watch(self) -> None:
        """Look who owns what, whenever it changes or a lease ends, and say what is to be done."""
        membership = self._membership
        while not self._stopping.is_set():
            holdings, workers, freeze = await self._store.ownership.look_at_shards()
            if freeze > self._newest_freeze:
                self._newest_freeze = freeze
                self.inbox.wake.set()
            step = next_step(self._store.worker, holdings, workers, joined=membership.joined)
            self._pipeline.in_short = step.is_moving
            if step.owned - membership.owned:
                raise TryAgainError("shards are owned that are not worked on: beginning again")
            if membership.owned - step.owned:
                # Who is idle writes nothing, so no fence tells it.
                self._has_lost = True
                self.inbox.wake.set()
            await self._store.ownership.refuse_moves(step.refuse)
            if step.ask:
                await self._store.ownership.ask_for_shards(step.ask)
            if step.complete and step.owned <= self._intake.shards:
                membership.joined = True
                membership.ready.set()
            else:
                membership.ready.clear()
            seconds = min(step.look_again_seconds, self._settings.lease_seconds / 3)
            if step.release or step.claim:
                self._step = step
                self._stepped.clear()
                self.inbox.wake.set()
                await self._stepped.wait()
                seconds = min(seconds, self._settings.claim_seconds)
            await self._store.ownership.wait_for_changes(max(seconds, 0.0))

    async def _await_told(self, seconds: float) -> None:
        """See all that is committed told, where Redis takes it in time."""
        with contextlib.suppress(TimeoutError):
            async with within(seconds):
                await self._replier.await_told()
                await self._replier.large.join()

    # Shards come and go.

    async def _take_step(self, step: Step) -> None:
        """Do what is to be done, between two flushes."""
        self._step = None
        await self._release(set(step.release))
        if step.claim:
            # Those that stand still are not read, and known to the intake all the same.
            before = self._intake.shards
            await self._pipeline.claim_shards(step.claim)
            # Of several former owners some may have been claimed from.
            taken = self._membership.owned - before
            if taken:
                _log.info("shards_claimed", shards=sorted(taken))
                await self._begin(taken)
        self._stepped.set()

    async def _begin(self, shards: Collection[int]) -> None:
        """Read on from where these shards got."""
        await self._repair.begin(shards)
        await self._store.ownership.note_moves_done(shards)

    def _drop_lost(self, shards: set[int]) -> None:
        """Another took these shards: what came of them is its to decide."""
        self._intake.stop(shards)
        self.inbox.drop(shards)

    def _stand(self, shard: int, reason: str) -> None:
        """Too many entries of a shard cannot be decided: it waits, and others go on."""
        self._repair.stand(shard, reason)

    async def _release(self, shards: set[int], *, leaving: bool = False) -> None:
        """Decide no more of these shards, see all committed, and give them back."""
        loop = asyncio.get_running_loop()
        paused_at = loop.time()
        self._intake.stop(shards)
        while shards:
            await self._pipeline.finish_decided()
            # Among them what was decided and not committed: others came first.
            self.inbox.drop(shards)
            await self._await_told(self._settings.lease_seconds / 3)
            shards &= self._membership.owned
            if not shards:
                return
            paused_seconds = loop.time() - paused_at
            if await self._pipeline.release_shards(shards, paused_seconds, leaving=leaving):
                _log.info("shards_released", shards=sorted(shards))
                return


def _gravest(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The one error of several to act upon."""
    errors = errors_of(group)
    for kind in (InvariantBroken, ConfigurationError, TryAgainError, EngineError):
        for error in errors:
            if isinstance(error, kind):
                return error
    return errors[0]
