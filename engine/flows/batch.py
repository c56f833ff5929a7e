"""One turn of a worker: what came, flow by flow, and the one flush that all of it becomes.

Nothing here waits. What was not loaded beforehand is a defect; what one flow breaks stops that one.
"""

from collections.abc import Collection, Sequence
from typing import Any

import msgspec
import structlog

from engine.errors import InputError
from engine.flows.catalogue import Catalogue, account_texts, encode_input
from engine.flows.early import EarlyCounts
from engine.flows.entries import Request, Start, WrittenSignal
from engine.flows.flush import FlowFlush, FlowRecord, Message, Review, ReviewEnd
from engine.flows.happenings import (
    Ask,
    Begin,
    Call,
    Cancelled,
    Decided,
    Flow,
    Happening,
    Looked,
    Resolved,
    Resumed,
    Started,
    Stopped,
)
from engine.flows.inputs import read_input
from engine.flows.journal import Row, Signal, State
from engine.flows.rules import advance
from engine.flows.store import PLACES_SHIFT
from engine.wire.fields import id_of

_log = structlog.get_logger()


class Live:
    """A flow in memory: what never changes, its journal, and its signals."""

    __slots__ = ("flow", "record", "rows", "signals", "state")

    def __init__(
        self, flow: Flow, record: FlowRecord, rows: list[Row], signals: list[Signal]
    ) -> None:
        self.flow = flow
        self.record = record
        self.rows = rows
        self.signals = signals
        self.state = State(flow.table, rows)


class Known(msgspec.Struct):
    """What was loaded for a turn."""

    messages: dict[tuple[bytes, str, str], Message] = {}
    accounts: dict[tuple[int, str], list[bytes]] = {}
    over: frozenset[bytes] = frozenset()


class Batch:
    """What a turn writes, and what is done after it is committed."""

    def __init__(
        self,
        catalogue: Catalogue,
        live: dict[bytes, Live],
        refused: dict[bytes, FlowRecord],
        known: Known,
        functions: Collection[str],
        early: dict[bytes, list[Signal]],
        early_counts: EarlyCounts,
        number: int,
        now: int,
    ) -> None:
        self.flush = FlowFlush()
        self.asks: list[Ask] = []
        self.calls: list[Call] = []
        self.begins: list[Begin] = []
        self.timers: dict[bytes, int] = {}
        """By flow, when it is to be looked at; zero for never."""
        self._catalogue = catalogue
        self._live = live
        self._refused = refused
        self._known = known
        self._functions = functions
        self._number = number
        self.now = now
        self._places = 0
        self._early = early
        self.early_changes = early_counts.begin()

    # Starts.

    def start(self, request: Request, start: Start) -> str:
        """Start a flow; returns the outcome."""
        kept = self._live.get(start.id)
        if kept is not None:
            return self._catalogue.compare(kept.record, request.flow, start.input)
        if start.id in self._refused:
            return self._catalogue.compare(self._refused[start.id], request.flow, start.input)
        definition = self._catalogue.newest.get(request.flow)
        try:
            written = encode_input(start.input)
            if definition is None:
                return self._refuse(request, start, written, "definition_not_found")
            table = definition.table
            values = read_input(start.input, table.struct)
        except InputError:
            return "invalid_input"
        accounts: dict[str, str] = {}
        for text in account_texts(table, values):
            found = self._known.accounts.get((table.ledger, text), [])
            if len(found) != 1:
                outcome = "account_ambiguous" if found else "account_not_found"
                return self._refuse(request, start, written, outcome)
            accounts[text] = _uuid_text(found[0])
        record = FlowRecord(
            start.id,
            definition.number,
            "created",
            request.flow,
            written,
            accounts,
            request.by,
            request.depth,
        )
        signals = self._early.pop(start.id, [])
        if signals:
            self.early_changes.add(start.id, -len(signals))
            self.flush.early_ends.append(start.id)
        live = Live(self._catalogue.flow_of(record), record, [], signals)
        self._live[start.id] = live
        self.flush.flows.append(record)
        self.happen(live, Started(request.start_at))
        return "created"

    def _refuse(self, request: Request, start: Start, written: bytes, outcome: str) -> str:
        """The state of things refuses it: the id is spent."""
        record = FlowRecord(start.id, None, outcome, request.flow, written, {}, request.by)
        self._refused[start.id] = record
        self.flush.flows.append(record)
        return outcome

    # Signals, and what people ask.

    def signal(self, written: WrittenSignal) -> str:
        """Take in a signal; returns what it is answered."""
        flow = id_of(written.flow)
        key = (flow, written.name, written.message_id)
        body = None if written.body is None else msgspec.json.encode(written.body).decode()
        before = self._known.messages.get(key)
        if before is not None:
            return self._again(before, written, body)
        message = Message(flow, written.name, written.message_id, written.event, body, "")
        live = self._live.get(flow)
        if written.name.startswith(":"):
            answer = "flow_not_found" if live is None else self._ask(live, written)
            if live is not None:
                self._keep(message, answer)
            return answer
        if live is None:
            if flow in self._refused:
                return self._misfit(message, "flow_not_found")
            return self._keep_early(message)
        if live.state.last is not None and live.state.last.state == "ended":
            return self._misfit(message, "flow_ended")
        if written.event not in live.flow.table.signals.get(written.name, ()):
            return self._misfit(message, "unknown_event")
        kept = self._keep(message, "created")
        signal = Signal(kept.number, written.name, written.event, written.message_id)
        live.signals.append(signal)
        self.happen(live, Looked())
        return "created"

    def _keep_early(self, message: Message) -> str:
        """Keep a signal of a flow that has not started, as long as there is room."""
        if not self.early_changes.has_room(message.flow):
            return "flow_not_found"
        self.early_changes.add(message.flow, 1)
        kept = self._keep(message, "created")
        signal = Signal(kept.number, kept.name, kept.event, kept.message_id)
        self._early.setdefault(kept.flow, []).append(signal)
        self.flush.early.append((kept.number, kept.flow))
        return "created"

    def _again(self, before: Message, written: WrittenSignal, body: str | None) -> str:
        if before.name.startswith(":"):
            return before.answer
        if before.event != written.event:
            return "exists_with_different_event"
        kept = None if before.body is None else msgspec.json.decode(before.body)
        sent = None if body is None else msgspec.json.decode(body)
        return "exists" if kept == sent else "exists_with_different_body"

    def _keep(self, message: Message, answer: str) -> Message:
        self._places += 1
        number = (self._number << PLACES_SHIFT) + self._places
        kept = msgspec.structs.replace(message, answer=answer, number=number)
        self.flush.messages.append(kept)
        self._known.messages[kept.flow, kept.name, kept.message_id] = kept
        return kept

    def _misfit(self, message: Message, answer: str) -> str:
        self.flush.misfits.append(msgspec.structs.replace(message, answer=answer))
        return answer

    def _ask(self, live: Live, written: WrittenSignal) -> str:
        """What people ask of a flow comes by the same way, under names with a colon."""
        body: dict[str, Any] = written.body if isinstance(written.body, dict) else {}
        by, reason = str(body.get("by", "")), str(body.get("reason", ""))
        happening: Happening
        match written.name:
            case ":cancel":
                happening = Cancelled(by)
            case ":resume":
                happening = Resumed(by, self._known.over)
            case ":resolve":
                happening = Resolved(written.event, by, reason)
            case ":decide":
                seq, seen = body.get("seq", 0), body.get("seen")
                if not isinstance(seq, int) or not isinstance(seen, int | None):
                    return "unknown_answer"
                happening = Decided(written.event, by, seq, reason, seen)
            case _:
                return "unknown_event"
        return self.happen(live, happening)

    def forget_early(self, forgotten: Sequence[tuple[int, int]]) -> None:
        """Let go of signals whose flows never started, by number and shard."""
        for number, shard in forgotten:
            self.flush.forgotten.append(number)
            self.early_changes.drop(shard)

    # Any flow.

    def happen(self, live: Live, happening: Happening) -> str:
        """Let something happen to a flow; one that breaks is stopped, and it alone."""
        was = live.state.last
        try:
            made = advance(
                live.flow, live.state, happening, live.signals, self.now, self._functions
            )
        except Exception as error:  # noqa: BLE001 - whatever it is, it is this flow's alone
            _log.error("flow_stopped", flow=live.flow.id.hex(), reason=repr(error))
            live.state = State(live.flow.table, live.rows)
            stopped = Stopped(f"defect: {type(error).__name__}")
            made = advance(live.flow, live.state, stopped, (), self.now, ())
        if not made.rows:
            return made.answer
        live.rows += made.rows
        self.flush.rows += made.rows
        self.asks += made.asks
        self.calls += made.calls
        self.begins += made.begins
        self._review(live, was, made.rows)
        last = made.rows[-1]
        self.timers[live.flow.id] = last.due_at
        if last.state == "ended":
            self.flush.open.pop(live.flow.id, None)
            self.flush.ended.append(live.flow.id)
        else:
            self.flush.open[live.flow.id] = wake_at(last)
        return made.answer

    def _review(self, live: Live, was: Row | None, rows: list[Row]) -> None:
        """Open and end reviews as the rows say."""
        before = was
        for row in rows:
            if before is not None and before.state == "review":
                reason = str(row.detail.get("reason", ""))
                event = row.event or row.state
                end = ReviewEnd(row.flow, before.seq, event, row.reference, reason)
                self.flush.review_ends.append(end)
            if row.state == "review":
                step = live.flow.table.steps[row.step]
                answers = [name for name in step.branches if name != "late"]
                review = Review(row.flow, row.seq, step.question, answers, row.due_at)
                self.flush.reviews.append(review)
            before = row


def wake_at(row: Row) -> int | None:
    """When a new owner has to look at it: at once, where something is asked or unknown."""
    if row.state in {"asked", "unknown"}:
        return row.time
    return row.due_at or None


def _uuid_text(found: bytes) -> str:
    text = found.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
