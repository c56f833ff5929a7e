"""A session of a flow worker: from a load of what it owns to the first server that is away."""

import asyncio
from typing import TYPE_CHECKING, Final

import anyio

from engine.errors import TryAgainError, errors_of
from engine.flows.calls import Calls
from engine.flows.desk import Desk
from engine.flows.happenings import Happening
from engine.flows.loads import Loads
from engine.flows.rounds import Came, Rounds
from engine.flows.shares import Shares
from engine.flows.streams import flow_stream
from engine.flows.timers import Timers

if TYPE_CHECKING:
    from engine.flows.worker import FlowWorker

BLOCK_MS: Final = 100
ENTRIES_MAX: Final = 2000
"""With more that are read and not decided nothing more is read."""

STOP_SECONDS_MAX: Final = 10.0
"""How long a worker that stops waits for calls that are under way."""

BACKLOG_ENTRIES_MAX: Final = 1000
"""With more waiting for the ledger no flow is started; signals, posts and voids go on."""


class FlowSession:
    """One session. Used once."""

    def __init__(self, worker: "FlowWorker") -> None:
        self._worker = worker
        self._store = worker.store
        self._streams = worker.streams
        self._calls = Calls(worker.functions, self._hear)
        self._desk = Desk(worker.store, worker.streams, worker.shard_count, self._hear)
        self._loads = Loads(worker.store)
        self._came = Came()
        self._timers = Timers(worker.store)
        self._shares = Shares(worker.store.ownership, worker.lease_seconds)
        self._rounds = Rounds(
            worker,
            self._loads,
            self._shares,
            self._timers,
            self._desk,
            self._calls,
            lambda: self._now,
        )
        self._clock = (0, 0.0)
        self._read_until = 0
        self._wake = asyncio.Event()
        self._are_starts_read = True
        self._scope: anyio.CancelScope | None = None
        self._room = asyncio.Event()
        self._room.set()

    def _hear(self, flow: bytes, happening: Happening) -> None:
        self._came.happened.append((flow, happening))
        self._wake.set()

    @property
    def _now(self) -> int:
        """Postgres's clock, as it goes on since it was asked."""
        base, at = self._clock
        return base + int((asyncio.get_running_loop().time() - at) * 1_000_000)

    # The tasks.

    async def run(self) -> None:
        """Work until the worker stops, or until a server is away."""
        host = asyncio.current_task()
        assert host is not None
        cancels = host.cancelling()
        try:
            async with anyio.create_task_group() as tasks:
                self._scope = tasks.cancel_scope
                await self._heartbeat()
                await self._load()
                tasks.start_soon(self._send_heartbeats)
                tasks.start_soon(self._read)
                tasks.start_soon(self._listen)
                await self._work()
                tasks.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            # What breaks on the way out of a cancellation is not what ended it.
            if host.cancelling() > cancels:
                raise asyncio.CancelledError from group
            raise _first(group) from group
        finally:
            with anyio.CancelScope(shield=True):
                await self._calls.close()

    def abandon(self) -> None:
        """Wait for nothing that is under way."""
        self._calls.abandon()
        if self._scope is not None:
            self._scope.cancel()

    async def _heartbeat(self) -> None:
        before = asyncio.get_running_loop().time()
        now = await self._store.ownership.heartbeat(self._worker.lease_seconds)
        # What is due is looked at a little late rather than early.
        self._clock = (now, max(before, asyncio.get_running_loop().time()))

    async def _send_heartbeats(self) -> None:
        while True:
            await asyncio.sleep(self._worker.lease_seconds / 5)
            await self._heartbeat()
            await self._store.ownership.terminate_blockers()
            self._are_starts_read = (
                await self._streams.backlog(range(self._worker.shard_count)) < BACKLOG_ENTRIES_MAX
            )
            self._wake.set()

    async def _read(self) -> None:
        """Read the streams; what is late is so only once they were read to their end."""
        while True:
            await self._room.wait()
            if not self._shares.shards:
                await asyncio.sleep(0.05)
                continue
            kinds = ("signals", "flows") if self._are_starts_read else ("signals",)
            prefix = self._streams.prefix
            names = [flow_stream(prefix, k, s) for s in sorted(self._shares.shards) for k in kinds]
            began = self._now
            entries, is_whole = await self._streams.read(names, BLOCK_MS)
            self._came.entries += entries
            if is_whole:
                self._read_until = began
            if len(self._came.entries) > ENTRIES_MAX:
                self._room.clear()
            self._wake.set()

    async def _listen(self) -> None:
        while True:
            answers = await self._streams.read_answers(BLOCK_MS)
            if answers:
                await self._desk.take_answers(answers)

    async def _work(self) -> None:
        while not self._worker.stopping.is_set():
            await self._keep_share()
            await self._take_what_came()
            if not self._came:
                self._wake.clear()
                try:
                    async with asyncio.timeout(self._timers.seconds_left(self._now, 0.2)):
                        await self._wake.wait()
                except TimeoutError:
                    continue

    async def _take_what_came(self) -> None:
        came, self._came = self._came, Came()
        came.heard_until = self._read_until
        came.due = self._timers.pop_due(self._now)
        self._room.set()
        if came:
            await self._rounds.take(came)

    # Shards.

    async def _load(self) -> None:
        await self._shares.load()
        await self._loads.load_definitions()
        await self._timers.load(self._shares.shards, self._now)

    async def _keep_share(self) -> None:
        taken = await self._shares.keep()
        if taken:
            await self._timers.load(taken, self._now)
        if self._shares.is_settled:
            self._worker.ready.set()
        await self._timers.load_more(self._shares.shards, self._now)


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The one error to act upon: one that is not passing before those that are."""
    errors = errors_of(group)
    return next((e for e in errors if not isinstance(e, TryAgainError)), errors[0])
