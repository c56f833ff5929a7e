"""A round of a session: all that has come, flow by flow, as one flush; then what follows from it.

What cannot be written is found by taking things one at a time: an entry that no database keeps is
a dead letter, a flow that breaks is stopped, and the others go on.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeAlias

import msgspec
import structlog

from engine.errors import EngineError, RefusedError
from engine.flows.batch import Batch, Known
from engine.flows.calls import Calls
from engine.flows.desk import Desk
from engine.flows.entries import (
    Request,
    Unreadable,
    answer_fields,
    error_fields,
    read_entry,
    refused_entry,
)
from engine.flows.flush import FlowRecord, Move
from engine.flows.forms import FORMS_MAX
from engine.flows.happenings import Answered, Ask, Begin, Happening, Looked, Stopped
from engine.flows.journal import Signal
from engine.flows.live import Live
from engine.flows.loads import Loads
from engine.flows.money import seq_of
from engine.flows.outbox import Parts
from engine.flows.shares import Shares
from engine.flows.streams import FlowEntry
from engine.flows.table import MONEY
from engine.flows.timers import Timers
from engine.flows.turn import LOOK_AGAIN
from engine.ledger.nouns import shard_of

if TYPE_CHECKING:
    from engine.flows.worker import FlowWorker

LIVE_MAX = 100_000
"""Flows kept in memory between rounds."""

_log = structlog.get_logger()

Decision: TypeAlias = tuple[Parts, str, dict[int, list[int]]]
"""An entry as far as it was decided here, its kind, and what of it is at home elsewhere."""


class Came(msgspec.Struct):
    """What has come to a session since its last round."""

    entries: list[FlowEntry] = []
    happened: list[tuple[bytes, Happening]] = []
    due: list[bytes] = []
    moves: list[Move] = []
    """Of schedules, of which an occurrence was started."""
    forgotten: list[tuple[int, int]] = []
    """Numbers and shards of signals whose flows never started."""
    heard: dict[int, int] = {}
    """By shard, the time after which the stream of its signals was read to its end."""

    def __bool__(self) -> bool:
        return bool(self.entries or self.happened or self.due or self.moves or self.forgotten)

    def one_by_one(self) -> "list[Came]":
        """The same in pieces that cannot be taken apart."""
        pieces = [Came(entries=[entry]) for entry in self.entries]
        pieces += [Came(happened=[what]) for what in self.happened]
        pieces += [Came(moves=[move]) for move in self.moves]
        return pieces + [Came(due=[flow], heard=self.heard) for flow in self.due]


class Looks(msgspec.Struct):
    """What is looked after because its time is over."""

    asks: list[Ask]
    children: list[Begin]
    waits: list[tuple[Live, int]]
    """Flows that wait here, and how long their journals were."""


class Flushed(msgspec.Struct):
    """A round that is committed, and what is to be done after it."""

    batch: Batch
    decisions: list[Decision]
    unreadable: list[Unreadable]
    looks: Looks


class Rounds:
    """The rounds of one session.

    Args:
        worker: Whose session it is.
        loads: What it has in memory.
        shares: Its shards, and its place in the chain.
        timers: When it is to look at what.
        desk: Where transfers are asked for, and children.
        calls: Where functions are called.
        clock: Postgres's, in microseconds.
    """

    def __init__(
        self,
        worker: "FlowWorker",
        loads: Loads,
        shares: Shares,
        timers: Timers,
        desk: Desk,
        calls: Calls,
        clock: Callable[[], int],
    ) -> None:
        self._worker = worker
        self._loads = loads
        self._live = loads.live
        self._shares = shares
        self._timers = timers
        self._desk = desk
        self._calls = calls
        self._clock = clock

    async def take(self, came: Came) -> None:
        """Decide, flush, and do what follows; what breaks that is set aside, and it alone."""
        try:
            flushed = await self._flush(came)
        except Exception as error:
            # What is wrong with a server ends the session; what is wrong with a value is its own.
            if isinstance(error, EngineError) and not isinstance(error, RefusedError):
                raise
            # What was advanced in memory is not committed.
            self._live.clear()
            pieces = came.one_by_one()
            if len(pieces) == 1:
                await self._set_aside(came, error)
            else:
                for piece in pieces:
                    await self.take(piece)
            return
        await self._follow(flushed)
        await self._worker.streams.remove(came.entries)
        self._forget(flushed.batch)

    # Up to the commit.

    async def _flush(self, came: Came) -> Flushed:
        requests, unreadable = self._understand(came.entries)
        ids = {flow for request in requests for flow in request.ids}
        ids |= {flow for flow, _ in came.happened} | set(came.due)
        mine = {flow for flow in ids if self._is_mine(flow)}
        refused, early = await self._loads.load_flows(mine)
        known = await self._loads.load_known(requests)
        batch = self._begin(refused, known, early)
        batch.flush.dead_letters += [letter.row for letter in unreadable]
        batch.flush.moves += came.moves
        for flow, happening in came.happened:
            if flow in self._live:
                batch.steps.happen_soon(self._live[flow], happening)
        decisions = [self._decide(batch, request) for request in requests]
        if not requests:  # else one of them may have started just now
            batch.forget_early(came.forgotten)
        # Signals went first; what is late is so by what was read to the end after its time.
        batch.steps.catch_up()
        looks = Looks([], [], [])
        for flow in came.due:
            live = self._live.get(flow)
            if live is not None:
                home = shard_of(flow, self._worker.shard_count)
                self._look(batch, live, came.heard.get(home, 0), looks)
        batch.steps.catch_up()
        self._look_later(looks.waits)
        await self._commit(batch)
        return Flushed(batch, decisions, unreadable, looks)

    def _begin(
        self,
        refused: dict[bytes, FlowRecord],
        known: Known,
        early: dict[bytes, list[Signal]],
    ) -> Batch:
        return Batch(
            self._loads.catalogue,
            self._live,
            refused,
            known,
            set(self._worker.functions),
            early,
            self._loads.early_counts,
            self._loads.forms,
            self._shares.number,
            self._clock(),
        )

    def _is_mine(self, flow: bytes) -> bool:
        return shard_of(flow, self._worker.shard_count) in self._shares.shards

    def _understand(self, entries: Sequence[FlowEntry]) -> tuple[list[Request], list[Unreadable]]:
        requests, unreadable = [], []
        for entry in entries:
            try:
                requests.append(read_entry(entry, self._worker.streams.prefix))
            except Unreadable as error:
                unreadable.append(error)
        return requests, unreadable

    def _decide(self, batch: Batch, request: Request) -> Decision:
        """Decide what of an entry is at home here; the rest is sent on."""
        homes = [shard_of(flow, self._worker.shard_count) for flow in request.ids]
        elsewhere: dict[int, list[int]] = {}
        for place, home in enumerate(homes):
            if home not in self._shares.shards:
                elsewhere.setdefault(home, []).append(place)
        outcomes: list[str | None] = []
        for home, start in zip(homes, request.starts, strict=bool(request.starts)):
            is_mine = home in self._shares.shards
            outcomes.append(batch.start(request, start) if is_mine else None)
        signals = zip(homes, request.ids, request.signals, strict=bool(request.signals))
        for home, flow, signal in signals:
            is_mine = home in self._shares.shards
            outcomes.append(batch.signal(flow, signal) if is_mine else None)
        return Parts(request, outcomes), "flows" if request.starts else "signals", elsewhere

    def _look(self, batch: Batch, live: Live, heard_until: int, looks: Looks) -> None:
        """A flow's time is over: look what can be done about it."""
        last = live.last
        if last is None or last.state in {"ended", "stopped"}:
            return
        flow = live.flow.id
        step = live.flow.table.steps[last.step]
        again = self._clock() + LOOK_AGAIN
        if last.state == "asked" and step.kind in MONEY:
            self._timers.set(flow, again)
            looks.asks.append(Ask(flow, seq_of(last.request), last.request))
        elif (
            step.kind == "start" and last.state in {"asked", "waiting"} and last.event != "start_at"
        ):
            self._timers.set(flow, again)
            child = Begin(flow, last.seq, last.transfer_id, step.child, last.request)
            looks.children.append(child)
        elif last.state == "asked" and (flow, last.seq) not in self._calls.in_flight:
            # Whoever made this attempt is gone.
            batch.steps.happen(live, Answered(last.seq, "unknown", {"reason": "worker_gone"}))
        else:
            looks.waits.append((live, last.seq))
            batch.steps.happen_soon(live, Looked(heard_until))

    def _look_later(self, waits: list[tuple[Live, int]]) -> None:
        """What was due and did not move is looked at again."""
        soon = self._clock() + 50_000
        for live, seq in waits:
            if live.form.seq == seq and live.due_at:
                self._timers.set(live.flow.id, max(live.due_at, soon))

    async def _commit(self, batch: Batch) -> None:
        if batch.flush.is_empty:
            return
        shares = self._shares
        sequence = shares.sequence + 1
        shares.number = await self._worker.store.flush(
            batch.flush, sequence, shares.number, batch.now, self._worker.shard_count
        )
        shares.sequence = sequence
        batch.early_changes.commit()

    # After it.

    async def _follow(self, flushed: Flushed) -> None:
        """All that waits for the commit."""
        batch = flushed.batch
        for flow, due_at in batch.steps.timers.items():
            if due_at:
                self._timers.set(flow, due_at)
            else:
                self._timers.drop(flow)
        await self._desk.send(batch.steps.asks)
        if flushed.looks.asks:
            await self._desk.look_again(flushed.looks.asks)
        flows = [call.flow for call in batch.steps.calls]
        self._calls.call(batch.steps.calls, {f: self._live[f].flow.values for f in flows})
        children = await self._desk.outbox.look_at_children(flushed.looks.children, self._live)
        await self._desk.outbox.begin([*batch.steps.begins, *children], self._live)
        answers = [
            (letter.reply, error_fields(letter))
            for letter in flushed.unreadable
            if letter.reply is not None
        ]
        for parts, kind, elsewhere in flushed.decisions:
            request = parts.request
            if elsewhere:
                await self._desk.outbox.forward(parts, kind, elsewhere)
            elif request.reply is not None:
                outcomes = [outcome or "" for outcome in parts.outcomes]
                answers.append((request.reply, answer_fields(request, outcomes)))
        if answers:
            await self._worker.streams.answer(answers)

    def _forget(self, batch: Batch) -> None:
        """Flows that ended leave the memory; so do all where there are too many."""
        for flow in batch.flush.ended:
            self._live.pop(flow, None)
        if len(self._live) > LIVE_MAX:
            self._live.clear()
        if self._loads.forms.count > FORMS_MAX:
            self._loads.forms.clear()

    async def _set_aside(self, came: Came, error: Exception) -> None:
        """What breaks a round by itself: an entry is a dead letter, a flow is stopped."""
        _log.error("flow_round_broken", reason=repr(error), entries=len(came.entries))
        batch = self._begin({}, Known(), {})
        unreadable = []
        for entry in came.entries:
            letter = refused_entry(entry, self._worker.streams.prefix, str(error))
            unreadable.append(letter)
            batch.flush.dead_letters.append(letter.row)
        flows = [flow for flow, _ in came.happened] + came.due
        await self._loads.load_flows(flows)
        for flow in flows:
            if flow in self._live:
                batch.steps.happen(self._live[flow], Stopped(f"defect: {type(error).__name__}"))
        await self._commit(batch)
        await self._follow(Flushed(batch, [], unreadable, Looks([], [], [])))
        await self._worker.streams.remove(came.entries)
