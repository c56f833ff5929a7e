"""A session of a worker: from a load of what it owns to the first server that is away."""

import asyncio
from typing import TYPE_CHECKING

import anyio
import structlog

from engine.aftermath import Aftermath
from engine.errors import ConfigurationError, EngineError, InvariantBroken, TryAgainError
from engine.inbox import Inbox, understand
from engine.pipeline import Pipeline
from engine.streams import Entry

if TYPE_CHECKING:
    from engine.worker import Worker

_log = structlog.get_logger()


class Session:
    """One session. Used once."""

    def __init__(self, worker: "Worker") -> None:
        self._worker = worker
        self._store = worker.store
        self._streams = worker.streams
        self._settings = worker.settings
        self.inbox = Inbox(worker.settings.inbox_transfers_max)
        self._aftermath = Aftermath(worker.streams)
        self._pipeline = Pipeline(
            worker.store,
            self.inbox,
            self._aftermath,
            worker.statistics,
            worker.settings,
            worker.clock,
            worker.shard_count,
        )

    async def run(self) -> None:
        """Work until the worker stops, or until a server is away; see `Worker.run`."""
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._beat)
                tasks.start_soon(self._aftermath.run)
                complete = await self._take_over()
                await self._look_below()
                tasks.start_soon(self._read)
                if complete:
                    self._worker.ready.set()
                await self._work(complete=complete)
                with anyio.move_on_after(self._settings.lease_seconds):
                    await self._aftermath.finish()
                tasks.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            raise _gravest(group) from group
        finally:
            with anyio.CancelScope(shield=True):
                await self._pipeline.close()

    async def _take_over(self) -> bool:
        """Claim, then load what the book rests on. Returns whether all wanted is owned."""
        worker = self._worker
        worker.statistics.sessions += 1
        taken = await self._store.owning.claim(worker.wanted, worker.clock())
        if taken:
            _log.info("shards_claimed", shards=taken)
        await self._pipeline.load()
        return worker.wanted <= self._pipeline.owned.keys()

    async def _look_below(self) -> None:
        """Decide what an older Redis brought back below the positions, then move it forward."""
        for shard, owned in list(self._pipeline.owned.items()):
            while True:
                entries = await self._streams.read_below(shard, owned.position)
                if entries:
                    await self._decide_below(entries)
                    continue
                await self._streams.move_forward(shard, owned.position)
                if not await self._streams.read_below(shard, owned.position):
                    break

    async def _decide_below(self, entries: list[Entry]) -> None:
        arrivals = [understand(entry, self._streams.prefix) for entry in entries]
        ids = {one for arrival in arrivals for one in arrival.rows["id"].tolist()}
        known = {one.transfer.id for one in await self._store.load_known(list(ids))}
        undecided = []
        for arrival in arrivals:
            decided = arrival.request and known.issuperset(arrival.rows["id"].tolist())
            if not decided:
                position = arrival.entry.position.entry_id
                _log.warning("entry_below_position", shard=arrival.entry.shard, entry=position)
                undecided.append(arrival)
        self.inbox.put_back(undecided)
        while self.inbox or self._pipeline.is_busy():
            await self._pipeline.go_on(decide=bool(self.inbox))
        await self._aftermath.finish()
        await self._streams.remove(entries)

    async def _beat(self) -> None:
        while True:
            await self._store.owning.beat(self._settings.lease_seconds)
            await asyncio.sleep(self._settings.lease_seconds / 3)

    async def _read(self) -> None:
        at = {shard: owned.position for shard, owned in self._pipeline.owned.items()}
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

    async def _work(self, *, complete: bool) -> None:
        """Decide and flush, each as soon as it can, until stopping.

        Where not all shards asked for could be had, this ends after a moment, to try again.
        """
        loop = asyncio.get_running_loop()
        ends_at = None if complete else loop.time() + self._settings.claim_seconds
        while not self._worker.stopping and (ends_at is None or loop.time() < ends_at):
            self.inbox.wake.clear()
            await self._pipeline.go_on()
            if not self.inbox:
                await self._pipeline.wait()
        while self._pipeline.is_busy():
            await self._pipeline.go_on(decide=False)


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
