"""A session of a flow worker: from a load of what it owns to the first server that is away."""

import asyncio
import contextlib
from collections.abc import Collection
from typing import TYPE_CHECKING, Final

import anyio

from engine.errors import TryAgainError, errors_of
from engine.flows.calls import Calls
from engine.flows.desk import Desk
from engine.flows.early import EARLY_KEPT, FORGET_MAX
from engine.flows.flush import Move
from engine.flows.happenings import Happening
from engine.flows.loads import Loads
from engine.flows.rounds import Came, Rounds
from engine.flows.schedules import DueSchedules, Schedule
from engine.flows.shares import Shares
from engine.flows.streams import flow_stream
from engine.flows.timers import Timers

if TYPE_CHECKING:
    from engine.flows.worker import FlowWorker

BLOCK_MS: Final = 100
ENTRIES_MAX: Final = 2000
"""With more that are read and not decided nothing more is read."""

FORGET_SECONDS: Final = 600.0
"""Between two looks for signals of flows that never started."""

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
        self._desk = Desk(
            worker.store, worker.streams, worker.shard_count, self._hear, self._hear_occurrence
        )
        self._due_schedules = DueSchedules()
        self._forgot_at = -FORGET_SECONDS
        self._loads = Loads(worker.store, worker.shard_count)
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
        self._heard: dict[int, int] = {}
        """By shard, the time up to which its signals are known."""
        self._wake = asyncio.Event()
        self._are_starts_read = True
        self._scope: anyio.CancelScope | None = None
        self._room = asyncio.Event()
        self._room.set()

    def _hear(self, flow: bytes, happening: Happening) -> None:
        self._came.happened.append((flow, happening))
        self._wake.set()

    def _hear_occurrence(self, schedule: Schedule, outcome: str) -> None:
        self._hear_moves([schedule.move(outcome)])

    def _hear_moves(self, moves: list[Move]) -> None:
        self._came.moves += moves
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
                tasks.start_soon(self._look_around)
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

    async def _look_around(self) -> None:
        """What takes a while, and holds up no heartbeat."""
        while True:
            self._are_starts_read = (
                await self._streams.backlog(range(self._worker.shard_count)) < BACKLOG_ENTRIES_MAX
            )
            await self._streams.mend(self._names(("signals", "flows")))
            await self._start_due_schedules()
            await self._forget_early()
            self._wake.set()
            await asyncio.sleep(self._worker.lease_seconds / 5)

    async def _start_due_schedules(self) -> None:
        now = self._now
        due = await self._store.due_schedules(self._shares.shards, now)
        starts, moves = self._due_schedules.choose(due, now)
        self._hear_moves(moves)
        await self._desk.outbox.occur(starts)

    async def _forget_early(self) -> None:
        """Now and then, let go of signals whose flows never started."""
        seconds = asyncio.get_running_loop().time()
        if seconds < self._forgot_at + FORGET_SECONDS:
            return
        old = await self._store.old_early(self._shares.shards, self._now - EARLY_KEPT)
        self._came.forgotten += old
        if len(old) < FORGET_MAX:
            self._forgot_at = seconds

    async def _read(self) -> None:
        """Read the streams; what is late is so only once they were read to their end."""
        while True:
            await self._room.wait()
            if not self._shares.shards:
                await asyncio.sleep(0.05)
                continue
            kinds = ("signals", "flows") if self._are_starts_read else ("signals",)
            shards = sorted(self._shares.shards)
            began = self._now
            entries, ended = await self._streams.read(self._names(kinds), BLOCK_MS)
            self._came.entries += entries
            prefix = self._streams.prefix
            self._heard |= {s: began for s in shards if flow_stream(prefix, "signals", s) in ended}
            if len(self._came.entries) > ENTRIES_MAX:
                self._room.clear()
            self._wake.set()

    def _names(self, kinds: Collection[str]) -> list[str]:
        """The streams of its shards."""
        shards = sorted(self._shares.shards)
        return [flow_stream(self._streams.prefix, kind, s) for s in shards for kind in kinds]

    async def _listen(self) -> None:
        while True:
            answers = await self._streams.read_answers(BLOCK_MS)
            if answers:
                await self._desk.take_answers(answers)

    async def _work(self) -> None:
        while not self._worker.stopping.is_set():
            await self._keep_share()
            await self._take_what_came()
            await self._wait_for_more()
        # What was begun outside is heard out, as far as that does not take long.
        loop = asyncio.get_running_loop()
        deadline = loop.time() + STOP_SECONDS_MAX
        while self._calls.in_flight and loop.time() < deadline:
            await self._wait_for_more()
            await self._take_what_came()

    async def _wait_for_more(self) -> None:
        if self._came:
            return
        self._wake.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._timers.seconds_left(self._now, 0.2)):
                await self._wake.wait()

    async def _take_what_came(self) -> None:
        came, self._came = self._came, Came()
        came.heard = self._heard.copy()
        came.due = self._timers.pop_due(self._now)
        self._room.set()
        if came:
            await self._rounds.take(came)

    # Shards.

    async def _load(self) -> None:
        await self._shares.load()
        await self._loads.load_definitions()
        await self._loads.load_shards(self._shares.shards)
        await self._timers.load(self._shares.shards, self._now)

    async def _keep_share(self) -> None:
        taken = await self._shares.keep()
        if taken:
            await self._loads.load_shards(taken)
            await self._timers.load(taken, self._now)
        if self._shares.is_settled:
            self._worker.ready.set()
        await self._timers.load_more(self._shares.shards, self._now)


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The one error to act upon: one that is not passing before those that are."""
    errors = errors_of(group)
    return next((e for e in errors if not isinstance(e, TryAgainError)), errors[0])
