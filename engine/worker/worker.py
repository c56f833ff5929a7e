"""A worker: reads the streams of its shards, decides in order, flushes, tells.

A worker runs in sessions. A session loads what the worker owns and goes on from the
committed positions until a server is away. Then all that is in memory is thrown away and
the next session begins from Postgres, which is the one truth.
"""

import asyncio
import contextlib
import os
from collections.abc import Callable, Collection

import structlog

from engine.book.id_table import key_hashes
from engine.errors import ConfigurationError, TryAgainError
from engine.settings import WorkerSettings
from engine.store.worker_store import WorkerStore
from engine.streams.streams import Streams
from engine.worker.session import Session
from engine.worker.statistics import WorkerStatistics

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
        self.statistics = WorkerStatistics()
        self.ready = asyncio.Event()
        """Set while all shards that it is to have are this worker's and are being read."""
        self.clock = clock
        self.owned: set[int] = set()
        """Its shards."""
        self.joined = False
        """Whether it has had its share: then it asks others for theirs no more."""
        self.left = False
        """Whether it has given its shards back and is not alive any more."""
        self._listed = None if shards is None else frozenset(shards)
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
        while not self.stopping:
            flushes = self.statistics.flushes
            try:
                await self.store.open()
                await self.streams.open()
                if not registered:
                    await self._register()
                    registered = True
                self._session = Session(self)
                await self._session.run()
            except TryAgainError as error:
                if self.statistics.flushes > flushes:
                    backoff = 0.0
                _log.warning("session_ended", reason=str(error), again_in_seconds=backoff)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), backoff)
                backoff = min(self.settings.backoff_seconds_max, backoff * 2 + 0.02)
            finally:
                self.store.drop()
                await self.streams.close()
                self.ready.clear()
                self._session = None
        if not self.left:
            await self._leave()

    async def _register(self) -> None:
        self.shard_count = await self.store.shard_count()
        beyond = sorted(s for s in self._listed or () if not 0 <= s < self.shard_count)
        if beyond:
            raise ConfigurationError(
                f"there is no shard {beyond[0]}: the ledger has {self.shard_count}, from 0",
            )
        await self.store.ownership.register(self.settings.lease_seconds, self._listed)

    async def _leave(self) -> None:
        """Say goodbye, where the last session could not."""
        try:
            await self.store.open()
            ownership = await self.store.load_ownership()
            times = [owned.time for owned in ownership.shards.values()]
            if ownership.shards:
                await self.store.ownership.release(
                    ownership.shards,
                    owned=ownership.shards,
                    time=max([self.clock(), *(time + 1 for time in times)]),
                    leaving=True,
                )
            await self.store.ownership.expire()
        except TryAgainError as error:
            _log.warning("shards_not_released", reason=str(error))
        self.store.drop()
