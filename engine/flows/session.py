"""A session of a flow worker: from a load of what it owns to the first server that is away."""

import asyncio
import heapq
import time
from collections.abc import Collection
from typing import TYPE_CHECKING, Final

import anyio
import structlog

from engine.errors import TryAgainError
from engine.flows.batch import Batch, Live
from engine.flows.calls import Calls
from engine.flows.desk import Desk, Parts
from engine.flows.entries import Request, Unreadable, answer_fields, read_entry
from engine.flows.happenings import (
    Answered,
    Ask,
    Begin,
    Happening,
    Looked,
)
from engine.flows.loads import Loads
from engine.flows.money import unpack
from engine.flows.shares import Shares
from engine.flows.streams import FlowEntry, flow_stream
from engine.flows.table import MONEY
from engine.flows.turn import LOOK_AGAIN
from engine.ledger.nouns import shard_of
from engine.wire.fields import id_of

if TYPE_CHECKING:
    from engine.flows.worker import FlowWorker

BLOCK_MS: Final = 100
HORIZON: Final = 3_600_000_000
"""Microseconds: what is due within it is known in memory, the rest sleeps in Postgres."""

LIVE_MAX: Final = 100_000
"""Flows kept in memory between turns."""

DUE_MAX: Final = 2000
"""Flows whose time is over that are looked at in one turn."""

BACKLOG_ENTRIES_MAX: Final = 1000
"""With more waiting for the ledger no flow is started; signals, posts and voids go on."""

_log = structlog.get_logger()


class FlowSession:
    """One session. Used once."""

    def __init__(self, worker: "FlowWorker") -> None:
        self._worker = worker
        self._store = worker.store
        self._streams = worker.streams
        self._calls = Calls(worker.functions, self._hear)
        self._desk = Desk(worker.store, worker.streams, worker.shard_count, self._hear)
        self._loads = Loads(worker.store)
        self._live = self._loads.live
        self._entries: list[FlowEntry] = []
        self._happened: list[tuple[bytes, Happening]] = []
        self._timers: list[tuple[int, bytes]] = []
        self._loaded_until = 0
        self._shares = Shares(worker.store.ownership, worker.lease_seconds)
        self._clock = (0, 0.0)
        self._read_until = 0
        self._wake = asyncio.Event()
        self._are_starts_read = True
        self._room = asyncio.Event()
        self._room.set()

    def _hear(self, flow: bytes, happening: Happening) -> None:
        self._happened.append((flow, happening))
        self._wake.set()

    @property
    def _now(self) -> int:
        """Postgres's clock, as it goes on since it was asked."""
        base, at = self._clock
        return base + int((time.monotonic() - at) * 1_000_000)

    # The tasks.

    async def run(self) -> None:
        """Work until the worker stops, or until a server is away."""
        try:
            async with anyio.create_task_group() as tasks:
                await self._heartbeat()
                await self._load()
                tasks.start_soon(self._send_heartbeats)
                tasks.start_soon(self._read)
                tasks.start_soon(self._listen)
                await self._work()
                tasks.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            raise _first(group) from group
        finally:
            with anyio.CancelScope(shield=True):
                await self._calls.close()

    async def _heartbeat(self) -> None:
        before = time.monotonic()
        now = await self._store.ownership.heartbeat(self._worker.lease_seconds)
        # What is due is looked at a little late rather than early.
        self._clock = (now, max(before, time.monotonic()))

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
            self._entries += entries
            if is_whole:
                self._read_until = began
            if len(self._entries) > 2000:
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
            await self._turn()
            if not (self._entries or self._happened):
                self._wake.clear()
                seconds = 0.2
                if self._timers:
                    seconds = min(seconds, max((self._timers[0][0] - self._now) / 1e6, 0.005))
                try:
                    async with asyncio.timeout(seconds):
                        await self._wake.wait()
                except TimeoutError:
                    continue

    # Shards.

    async def _load(self) -> None:
        await self._shares.load()
        await self._loads.load_definitions()
        await self._load_due(self._shares.shards, 0)

    async def _load_due(self, shards: Collection[int], after: int) -> None:
        self._loaded_until = max(self._loaded_until, self._now + HORIZON)
        for wake_at, flow in await self._store.due(shards, after, self._loaded_until):
            heapq.heappush(self._timers, (wake_at, flow))

    async def _keep_share(self) -> None:
        taken = await self._shares.keep()
        if taken:
            await self._load_due(taken, 0)
        if self._shares.is_settled:
            self._worker.ready.set()
        if self._loaded_until < self._now + HORIZON // 2:
            await self._load_due(self._shares.shards, self._loaded_until)

    # A turn.

    async def _turn(self) -> None:
        """Everything that has come, as one flush; then what follows from it."""
        heard_until = self._read_until
        entries, self._entries = self._entries, []
        happened, self._happened = self._happened, []
        self._room.set()
        due = self._pop_due()
        if not (entries or happened or due):
            return
        requests, letters = self._understand(entries)
        ids = {s.id for r in requests for s in r.starts}
        ids |= {id_of(s.flow) for r in requests for s in r.signals}
        ids |= {flow for flow, _ in happened} | set(due)
        mine = {
            flow for flow in ids if shard_of(flow, self._worker.shard_count) in self._shares.shards
        }
        refused, early = await self._loads.load_flows(mine)
        known = await self._loads.load_known(requests)
        batch = Batch(
            self._loads.catalogue,
            self._live,
            refused,
            known,
            set(self._worker.functions),
            early,
            self._shares.number,
            self._now,
        )
        batch.flush.dead_letters += letters
        for flow, happening in happened:
            if flow in self._live:
                batch.happen(self._live[flow], happening)
        parts = [self._decide(batch, request) for request in requests]
        # Signals went first; what is late is so by what was read to the end after its time.
        looks, children = [], []
        for flow in due:
            live = self._live.get(flow)
            if live is not None:
                look, child = self._look(batch, live, heard_until)
                looks += look
                children += child
        await self._flush(batch)
        await self._follow(batch, parts, requests, looks, children)
        await self._streams.remove(entries)
        self._forget(batch)

    def _pop_due(self) -> list[bytes]:
        due: dict[bytes, None] = {}
        now = self._now
        while self._timers and self._timers[0][0] <= now and len(due) < DUE_MAX:
            due[heapq.heappop(self._timers)[1]] = None
        return list(due)

    def _understand(
        self, entries: list[FlowEntry]
    ) -> tuple[list[Request], list[tuple[str, str, str, list[bytes]]]]:
        requests, letters = [], []
        for entry in entries:
            try:
                requests.append(read_entry(entry, self._streams.prefix))
            except Unreadable as error:
                letters.append((entry.stream, entry.id.decode(), str(error), entry.fields))
        return requests, letters

    def _decide(self, batch: Batch, request: Request) -> tuple[Parts, str, dict[int, list[int]]]:
        """Decide what of an entry is at home here; the rest is sent on."""
        ids = [start.id for start in request.starts] or [id_of(s.flow) for s in request.signals]
        homes = [shard_of(flow, self._worker.shard_count) for flow in ids]
        elsewhere: dict[int, list[int]] = {}
        for place, home in enumerate(homes):
            if home not in self._shares.shards:
                elsewhere.setdefault(home, []).append(place)
        outcomes: list[str | None] = []
        for home, start in zip(homes, request.starts, strict=bool(request.starts)):
            outcomes.append(batch.start(request, start) if home in self._shares.shards else None)
        for home, signal in zip(homes, request.signals, strict=bool(request.signals)):
            outcomes.append(batch.signal(signal) if home in self._shares.shards else None)
        return Parts(request, outcomes), "flows" if request.starts else "signals", elsewhere

    def _look(self, batch: Batch, live: Live, heard_until: int) -> tuple[list[Ask], list[Begin]]:
        """A flow's time is over: look what can be done about it."""
        last = live.state.last
        if last is None or last.state in {"ended", "stopped"}:
            return [], []
        kind = live.flow.table.steps[last.step].kind
        again = self._now + LOOK_AGAIN
        if last.state == "asked" and kind in MONEY:
            heapq.heappush(self._timers, (again, live.flow.id))
            seq = unpack(last.request)[0].user_data_32
            return [Ask(live.flow.id, seq, last.request)], []
        if kind == "start" and last.state in {"asked", "waiting"} and last.event != "start_at":
            heapq.heappush(self._timers, (again, live.flow.id))
            step = live.flow.table.steps[last.step]
            request, seq = last.request, last.seq
            return [], [Begin(live.flow.id, seq, last.transfer_id, step.child, request)]
        if last.state == "asked" and (live.flow.id, last.seq) not in self._calls.in_flight:
            # Whoever made this attempt is gone.
            batch.happen(live, Answered(last.seq, "unknown", {"reason": "worker_gone"}))
        else:
            batch.happen(live, Looked(heard_until))
        if live.state.last is last and last.due_at:
            heapq.heappush(self._timers, (max(last.due_at, self._now + 50_000), live.flow.id))
        return [], []

    async def _flush(self, batch: Batch) -> None:
        if batch.flush.is_empty:
            return
        sequence = self._shares.sequence + 1
        self._shares.number = await self._store.flush(
            batch.flush, sequence, self._shares.number, batch.now, self._worker.shard_count
        )
        self._shares.sequence = sequence

    async def _follow(
        self,
        batch: Batch,
        parts: list[tuple[Parts, str, dict[int, list[int]]]],
        requests: list[Request],
        looks: list[Ask],
        children: list[Begin],
    ) -> None:
        """All that waits for the commit."""
        for timer in batch.timers:
            if timer[0] <= self._loaded_until:
                heapq.heappush(self._timers, timer)
        await self._desk.send(batch.asks)
        if looks:
            await self._desk.look_again(looks)
        flows = [call.flow for call in batch.calls]
        self._calls.call(batch.calls, {f: self._live[f].flow.values for f in flows})
        begins = [*batch.begins, *await self._desk.look_at_children(children, self._live)]
        await self._desk.begin(begins, self._live)
        answers = []
        for request, (part, kind, elsewhere) in zip(requests, parts, strict=True):
            if elsewhere:
                await self._desk.forward(part, kind, elsewhere)
            elif request.reply is not None:
                outcomes = [outcome or "" for outcome in part.outcomes]
                answers.append((request.reply, answer_fields(request, outcomes)))
        if answers:
            await self._streams.answer(answers)

    def _forget(self, batch: Batch) -> None:
        """Flows that ended leave the memory; so do all where there are too many."""
        for flow in batch.flush.ended:
            self._live.pop(flow, None)
        if len(self._live) > LIVE_MAX:
            self._live.clear()


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The one error to act upon: one that is not passing before those that are."""
    errors: list[BaseException] = []
    stack: list[BaseException] = [group]
    while stack:
        error = stack.pop()
        if isinstance(error, BaseExceptionGroup):
            stack.extend(error.exceptions)
        else:
            errors.append(error)
    return next((e for e in errors if not isinstance(e, TryAgainError)), errors[0])
