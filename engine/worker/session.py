"""A session of a worker: from a load of what it owns to the first server that is away.

Shards come and go in between: two tasks look around, keep the worker alive and say what is
to be done; the one that decides does it, when nothing is under way.
"""

import asyncio
from collections.abc import Collection
from typing import TYPE_CHECKING

import anyio
import structlog

from engine.errors import ConfigurationError, EngineError, InvariantBroken, TryAgainError
from engine.worker.inbox import Inbox
from engine.worker.intake import Intake
from engine.worker.pipeline import FIRST_CAME_ANOTHER, Pipeline
from engine.worker.repair import Repair
from engine.worker.replies import Replier
from shards.placement import Step, next_step

if TYPE_CHECKING:
    from engine.worker.worker import Worker

_log = structlog.get_logger()


class Session:
    """One session. Used once."""

    def __init__(self, worker: "Worker") -> None:
        self._worker = worker
        self._store = worker.store
        self._streams = worker.streams
        self._settings = worker.settings
        self.inbox = Inbox(worker.settings.inbox_transfers_max)
        self._intake = Intake(
            worker.streams, self.inbox, worker.settings.block_ms, worker.statistics.unread
        )
        self._replier = Replier(worker.streams)
        self._pipeline = Pipeline(
            worker.store,
            self.inbox,
            self._replier,
            worker.statistics,
            worker.settings,
            worker.clock,
            worker.shard_count,
            self._lose,
        )
        self._repair = Repair(
            worker.streams, worker.store, self.inbox, self._intake, self._pipeline, self._replier
        )
        self._step: Step | None = None
        self._stepped = asyncio.Event()

    @property
    def owned(self) -> set[int]:
        """The shards that are this worker's, as far as it knows."""
        return set(self._pipeline.owned)

    async def run(self) -> None:
        """Work until the worker stops, or until a server is away; see `Worker.run`."""
        self._worker.statistics.sessions += 1
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._send_heartbeats)
                tasks.start_soon(self._terminate_blockers)
                tasks.start_soon(self._replier.run)
                await self._pipeline.load()
                self._worker.joined &= self._worker.owned <= self.owned
                await self._begin(self.owned)
                tasks.start_soon(self._intake.run)
                tasks.start_soon(self._repair.run)
                tasks.start_soon(self._watch)
                await self._work()
                await self._release(self.owned, leaving=True)
                with anyio.move_on_after(self._settings.lease_seconds):
                    await self._replier.finish()
                tasks.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            raise _gravest(group) from group
        finally:
            with anyio.CancelScope(shield=True):
                await self._pipeline.close()

    async def _work(self) -> None:
        """Decide and flush, each as soon as it can, until stopping."""
        while not self._worker.stopping:
            self.inbox.wake.clear()
            await self._pipeline.go_on()
            if self._step is not None:
                await self._take(self._step)
            if self._repair.is_due:
                await self._repair.mend()
            if not self._pipeline.has_work:
                await self._pipeline.wait()

    # Being alive, and looking around.

    async def _send_heartbeats(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._store.ownership.heartbeat(self._settings.lease_seconds)
            rates = self._worker.statistics.load.rates(self.owned, loop.time())
            await self._store.ownership.record_loads(rates)
            await asyncio.sleep(self._settings.lease_seconds / 3)

    async def _terminate_blockers(self) -> None:
        while True:
            await asyncio.sleep(self._settings.claim_seconds)
            await self._store.ownership.terminate_blockers()

    async def _watch(self) -> None:
        """Look who owns what, whenever it changes or a lease ends, and say what is to be done."""
        worker = self._worker
        while not worker.stopping:
            holdings, workers = await self._store.ownership.look()
            step = next_step(self._store.worker, holdings, workers, joined=worker.joined)
            self._pipeline.in_short = step.is_moving
            if step.owned - self.owned:
                raise TryAgainError("shards are owned that are not worked on: beginning again")
            await self._store.ownership.refuse(step.refuse)
            if step.ask:
                await self._store.ownership.ask(step.ask)
            if step.complete and step.owned <= self._intake.shards:
                worker.joined = True
                worker.ready.set()
            else:
                worker.ready.clear()
            seconds = min(step.look_again_seconds, self._settings.lease_seconds / 3)
            if step.release or step.claim:
                self._step = step
                self._stepped.clear()
                self.inbox.wake.set()
                await self._stepped.wait()
                seconds = min(seconds, self._settings.claim_seconds)
            await self._store.ownership.changes(max(seconds, 0.0))

    # Shards come and go.

    async def _take(self, step: Step) -> None:
        """Do what is to be done, between two flushes."""
        self._step = None
        await self._release(set(step.release))
        if step.claim:
            try:
                await self._pipeline.claim(step.claim)
            except FIRST_CAME_ANOTHER as error:
                await self._pipeline.redo(error)
            # Of several former owners some may have been claimed from.
            taken = self.owned - self._intake.shards
            if taken:
                _log.info("shards_claimed", shards=sorted(taken))
                await self._begin(taken)
        self._stepped.set()

    async def _begin(self, shards: Collection[int]) -> None:
        """Read on from where these shards got."""
        await self._repair.begin(shards)
        self._worker.owned = self.owned
        await self._store.ownership.done(shards)

    def _lose(self, shards: set[int]) -> None:
        """Another took these shards: what came of them is its to decide."""
        self._intake.stop(shards)
        self.inbox.drop(shards)
        self._worker.owned = self.owned
        self._worker.joined = False

    async def _release(self, shards: set[int], *, leaving: bool = False) -> None:
        """Decide no more of these shards, see all committed, and give them back."""
        loop = asyncio.get_running_loop()
        paused_at = loop.time()
        self._intake.stop(shards)
        while shards:
            await self._pipeline.finish()
            # Among them what was decided and not committed: others came first.
            self.inbox.drop(shards)
            with anyio.move_on_after(self._settings.lease_seconds / 3):
                await self._replier.finish()
            shards &= self.owned
            if not shards:
                return
            try:
                paused_seconds = loop.time() - paused_at
                await self._pipeline.release(shards, paused_seconds, leaving=leaving)
            except FIRST_CAME_ANOTHER as error:
                await self._pipeline.redo(error)
                continue
            self._worker.owned = self.owned
            self._worker.left = leaving
            _log.info("shards_released", shards=sorted(shards))
            return


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
    for kind in (InvariantBroken, ConfigurationError, TryAgainError, EngineError):
        for error in errors:
            if isinstance(error, kind):
                return error
    return errors[0]
