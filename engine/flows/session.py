"""A session of a flow worker: from a load of what it owns to the first server that is away."""

import asyncio
import heapq
import math
import time
from collections import Counter
from collections.abc import Collection
from typing import TYPE_CHECKING, Any, Final

import anyio
import structlog

from engine.errors import TryAgainError
from engine.flows.batch import Batch, Known, Live
from engine.flows.catalogue import Catalogue, account_texts
from engine.flows.desk import Desk, Parts
from engine.flows.entries import Request, Unreadable, answer_fields, read_entry
from engine.flows.flush import FlowRecord
from engine.flows.happenings import (
    Answered,
    Ask,
    Begin,
    ChildAnswered,
    ChildEnded,
    Happening,
    Looked,
)
from engine.flows.inputs import read_input
from engine.flows.money import unpack
from engine.flows.ownership import NOBODY
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
        self._desk = Desk(
            worker.store, worker.streams, worker.shard_count, worker.functions, self._hear
        )
        self._catalogue = Catalogue()
        self._live: dict[bytes, Live] = {}
        self._entries: list[FlowEntry] = []
        self._happened: list[tuple[bytes, Happening]] = []
        self._timers: list[tuple[int, bytes]] = []
        self._loaded_until = 0
        self._shards: set[int] = set()
        self._sequence = 0
        self._number = 0
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
                await self._desk.close()

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
            if not self._shards:
                await asyncio.sleep(0.05)
                continue
            kinds = ("signals", "flows") if self._are_starts_read else ("signals",)
            prefix = self._streams.prefix
            names = [flow_stream(prefix, k, s) for s in sorted(self._shards) for k in kinds]
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
        owned = await self._store.ownership.load_ownership()
        self._sequence, self._number = owned.sequence, owned.number
        self._shards = owned.shards
        self._catalogue.add(await self._store.definitions(0))
        self._looked_at = -math.inf
        await self._load_due(self._shards, 0)

    async def _load_due(self, shards: Collection[int], after: int) -> None:
        self._loaded_until = max(self._loaded_until, self._now + HORIZON)
        for wake_at, flow in await self._store.due(shards, after, self._loaded_until):
            heapq.heappush(self._timers, (wake_at, flow))

    async def _keep_share(self) -> None:
        """Take what is free or has expired, up to the share; give back what is over it."""
        if time.monotonic() < self._looked_at + self._worker.lease_seconds / 5:
            return
        self._looked_at = time.monotonic()
        rows = await self._store.ownership.look()
        mine = {row["shard"] for row in rows if row["worker"] == self._store.worker}
        if mine != self._shards:
            raise TryAgainError("the shards of this flow worker are others now: beginning again")
        share = math.ceil(len(rows) / max(rows[0]["workers"], 1))
        free = [row for row in rows if not row["alive"] and row["worker"] != self._store.worker]
        wanted = free[: max(share - len(mine), 0)]
        if wanted:
            former = Counter(row["worker"] for row in wanted).most_common(1)[0][0]
            shards = [row["shard"] for row in wanted if row["worker"] == former]
            await self._change(shards, former, self._store.worker)
            self._looked_at = -math.inf
        elif len(mine) > share:
            await self._change(sorted(mine)[share:], self._store.worker, NOBODY)
        if self._shards and not wanted:
            self._worker.ready.set()
        if self._loaded_until < self._now + HORIZON // 2:
            await self._load_due(self._shards, self._loaded_until)

    async def _change(self, shards: list[int], former: bytes, worker: bytes) -> None:
        owned = await self._store.ownership.load_ownership()
        if owned.sequence != self._sequence:
            raise TryAgainError("another wrote in this flow worker's chain: beginning again")
        changed = await self._store.ownership.change_owner(owned, shards, former, worker)
        # What is written for these shards from now on has a number above that of the change.
        after = await self._store.ownership.load_ownership()
        if after.sequence != self._sequence + 1:
            raise TryAgainError("another wrote in this flow worker's chain: beginning again")
        self._sequence, self._number = after.sequence, after.number
        if worker == self._store.worker:
            self._shards |= changed
            await self._load_due(changed, 0)
        else:
            self._shards -= changed
            raise TryAgainError("shards were given back: beginning again without them")

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
        mine = {flow for flow in ids if shard_of(flow, self._worker.shard_count) in self._shards}
        refused, early = await self._load_flows(mine)
        known = await self._load_known(requests)
        batch = Batch(
            self._catalogue,
            self._live,
            refused,
            known,
            set(self._worker.functions),
            early,
            self._number,
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

    async def _load_flows(
        self, wanted: Collection[bytes]
    ) -> tuple[dict[bytes, FlowRecord], dict[bytes, list[Any]]]:
        """Load what is not in memory; returns refused starts, and signals of unknown flows."""
        missing = [flow for flow in wanted if flow not in self._live]
        if not missing:
            return {}, {}
        records = await self._store.load_flows(missing)
        refused = {r.id: r for r in records if r.outcome != "created"}
        running = [r for r in records if r.outcome == "created"]
        signals = await self._store.load_signals(missing)
        if running:
            if any(r.definition not in self._catalogue.by_number for r in running):
                self._catalogue.add(await self._store.definitions(self._catalogue.last))
            journals = await self._store.load_journals([r.id for r in running])
            for record in running:
                flow = self._catalogue.flow_of(record)
                rows = journals.get(record.id, [])
                self._live[record.id] = Live(flow, record, rows, signals.pop(record.id, []))
        return refused, signals

    async def _load_known(self, requests: list[Request]) -> Known:
        known = Known({}, {}, frozenset())
        signals = [s for r in requests for s in r.signals]
        keys = [(id_of(s.flow), s.name, s.message_id) for s in signals]
        if keys:
            known.messages = await self._store.load_messages(keys)
        resumed = [id_of(s.flow) for s in signals if s.name == ":resume"]
        holds = [
            h.id for f in resumed if f in self._live for h in self._live[f].state.held.values()
        ]
        if holds:
            known.over = await self._store.holds_over(holds)
        if any(r.starts for r in requests):
            self._catalogue.add(await self._store.definitions(self._catalogue.last))
            wanted: dict[int, set[str]] = {}
            for request in requests:
                definition = self._catalogue.newest.get(request.flow)
                for start in request.starts if definition is not None else ():
                    assert definition is not None
                    try:
                        values = read_input(start.input, definition.table.struct)
                    except Exception:  # noqa: BLE001, S112 - said so when it is decided
                        continue
                    texts = account_texts(definition.table, values)
                    wanted.setdefault(definition.table.ledger, set()).update(texts)
            for ledger, names in wanted.items():
                found = await self._store.find_accounts(ledger, names)
                known.accounts |= {(ledger, name): ids for name, ids in found.items()}
        return known

    def _decide(self, batch: Batch, request: Request) -> tuple[Parts, str, dict[int, list[int]]]:
        """Decide what of an entry is at home here; the rest is sent on."""
        ids = [start.id for start in request.starts] or [id_of(s.flow) for s in request.signals]
        homes = [shard_of(flow, self._worker.shard_count) for flow in ids]
        elsewhere: dict[int, list[int]] = {}
        for place, home in enumerate(homes):
            if home not in self._shards:
                elsewhere.setdefault(home, []).append(place)
        outcomes: list[str | None] = []
        for home, start in zip(homes, request.starts, strict=bool(request.starts)):
            outcomes.append(batch.start(request, start) if home in self._shards else None)
        for home, signal in zip(homes, request.signals, strict=bool(request.signals)):
            outcomes.append(batch.signal(signal) if home in self._shards else None)
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
        if last.state == "asked" and (live.flow.id, last.seq) not in self._desk.in_flight:
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
        sequence = self._sequence + 1
        self._number = await self._store.flush(
            batch.flush, sequence, self._number, batch.now, self._worker.shard_count
        )
        self._sequence = sequence

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
        self._desk.call(batch.calls, {f: self._live[f].flow.values for f in flows})
        for flow, happening in await self._children(batch, children):
            self._hear(flow, happening)
        answers = []
        for request, (part, kind, elsewhere) in zip(requests, parts, strict=True):
            if elsewhere:
                await self._desk.forward(part, kind, elsewhere)
            elif request.reply is not None:
                outcomes = [outcome or "" for outcome in part.outcomes]
                answers.append((request.reply, answer_fields(request, outcomes)))
        if answers:
            await self._streams.answer(answers)

    async def _children(self, batch: Batch, children: list[Begin]) -> list[tuple[bytes, Happening]]:
        """Start children, and look at those that are waited for."""
        begins = list(batch.begins)
        happened: list[tuple[bytes, Happening]] = []
        if children:
            ends = await self._store.ends_of([begin.child for begin in children])
            refused = {
                r.id: r.outcome
                for r in await self._store.load_flows([begin.child for begin in children])
                if r.outcome != "created"
            }
            for begin in children:
                last = self._live[begin.flow].state.last
                if begin.child in refused:
                    happened.append((begin.flow, ChildAnswered(begin.seq, refused[begin.child])))
                elif begin.child not in ends:
                    begins.append(begin)
                elif last is not None and last.state == "asked":
                    happened.append((begin.flow, ChildAnswered(begin.seq, "exists")))
                elif ends[begin.child][0] == "ended":
                    happened.append((begin.flow, ChildEnded(ends[begin.child][1] or "")))
        flows = {begin.flow: self._live[begin.flow].flow for begin in begins}
        await self._desk.begin(begins, {f: (x.started_by, x.depth) for f, x in flows.items()})
        return happened

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
