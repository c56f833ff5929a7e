"""A flow worker: reads starts and signals of its shards, advances flows, flushes, asks, answers.

It works in sessions, as a ledger's worker does: whatever goes wrong with a server ends one, all
that is in memory is thrown away, and the next begins from Postgres.
"""

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Final

import structlog

from engine.errors import TryAgainError
from engine.flows.calls import Function
from engine.flows.ownership import NOBODY
from engine.flows.session import FlowSession
from engine.flows.store import FlowStore
from engine.flows.streams import FlowStreams

LEASE_SECONDS: Final = 5.0
BACKOFF_SECONDS_MAX: Final = 1.0

_log = structlog.get_logger()


class FlowWorker:
    """One flow worker.

    Args:
        store: Its `worker` is this worker's id.
        streams: The streams.
        shard_count: Of the ledger; zero to ask it.
        functions: By name, what calls call.
        lease_seconds: How long its shards are not taken from it after its last heartbeat.
    """

    def __init__(
        self,
        store: FlowStore,
        streams: FlowStreams,
        shard_count: int,
        functions: Mapping[str, Function] | None = None,
        lease_seconds: float = LEASE_SECONDS,
    ) -> None:
        self.store = store
        self.streams = streams
        self.shard_count = shard_count
        self.functions = dict(functions or {})
        self.lease_seconds = lease_seconds
        self.ready = asyncio.Event()
        """Set while it owns shards and reads them."""
        self.stopping = asyncio.Event()
        self._session: FlowSession | None = None

    def stop(self) -> None:
        """Finish the turn, give the shards back, end."""
        self.stopping.set()

    def abandon(self) -> None:
        """End at once, as if killed: what is under way is cut off, whatever becomes of it.

        Whoever runs the worker cancels it next. A COMMIT that is waited for may be done or not.
        """
        self.stopping.set()
        if self._session is not None:
            self._session.abandon()
        self.store.drop()

    async def run(self) -> None:
        """Work until `stop`.

        Raises:
            ConfigurationError: A server is not as it must be; retrying would not help.
        """
        registered = False
        backoff = 0.0
        while not self.stopping.is_set():
            try:
                await self.store.open()
                await self.streams.open()
                self.shard_count = self.shard_count or await self.store.shard_count()
                if not registered:
                    await self.store.ownership.register(self.lease_seconds)
                    registered = True
                self._session = FlowSession(self)
                await self._session.run()
            except TryAgainError as error:
                _log.warning("flow_session_ended", reason=str(error), again_in_seconds=backoff)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self.stopping.wait(), backoff)
                backoff = min(BACKOFF_SECONDS_MAX, backoff * 2 + 0.02)
            finally:
                self.ready.clear()
                self._session = None
                self.store.drop()
                await self.streams.close()
        await self._leave()

    async def _leave(self) -> None:
        """Give the shards back."""
        try:
            await self.store.open()
            owned = await self.store.ownership.load_ownership()
            if owned.shards:
                await self.store.ownership.change_owner(
                    owned, owned.shards, self.store.worker, NOBODY
                )
            await self.store.ownership.expire()
        except TryAgainError as error:
            _log.warning("flow_shards_not_released", reason=str(error))
        self.store.drop()
