"""One turn of a worker: what came, flow by flow, and the one flush that all of it becomes.

Nothing here waits. What was not loaded beforehand is a defect; what one flow breaks stops that one.
"""

from collections.abc import Collection, Sequence
from typing import Any

import msgspec

from engine.errors import InputError
from engine.flows.catalogue import Catalogue, account_texts, encode_input
from engine.flows.early import EarlyCounts
from engine.flows.entries import Request, Start, WrittenSignal
from engine.flows.flush import FlowFlush, FlowRecord, Message
from engine.flows.forms import Forms
from engine.flows.happenings import (
    Cancelled,
    Decided,
    Flow,
    Happening,
    Looked,
    Resolved,
    Resumed,
    Started,
)
from engine.flows.inputs import read_input
from engine.flows.journal import Signal
from engine.flows.live import Live, live_of
from engine.flows.steps import Steps
from engine.flows.store import PLACES_SHIFT
from engine.wire.fields import uuid_text


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
        forms: Forms,
        number: int,
        now: int,
    ) -> None:
        self.flush = FlowFlush()
        self.steps = Steps(self.flush, functions, now)
        self._catalogue = catalogue
        self._live = live
        self._refused = refused
        self._known = known
        self._forms = forms
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
        accounts: dict[str, bytes] = {}
        for text in account_texts(table, values):
            found = self._known.accounts.get((table.ledger, text), [])
            if len(found) != 1:
                outcome = "account_ambiguous" if found else "account_not_found"
                return self._refuse(request, start, written, outcome)
            [accounts[text]] = found
        record = FlowRecord(
            start.id,
            definition.number,
            "created",
            request.flow,
            written,
            {text: uuid_text(found) for text, found in accounts.items()},
            request.by,
            request.depth,
        )
        signals = self._early.pop(start.id, ())
        if signals:
            self.early_changes.add(start.id, -len(signals))
            self.flush.early_ends.append(start.id)
        if request.format == "json":  # what is read of what is kept says the same
            ids = definition.account_ids | accounts
            flow = Flow(start.id, table, values, ids, request.by, request.depth)
        else:
            flow = self._catalogue.flow_of(record)
        live = live_of(flow, record, (), signals, self._forms.first_of(table))
        self._live[start.id] = live
        self.flush.flows.append(record)
        self.steps.happen_soon(live, Started(request.start_at))
        return "created"

    def _refuse(self, request: Request, start: Start, written: bytes, outcome: str) -> str:
        """The state of things refuses it: the id is spent."""
        record = FlowRecord(start.id, None, outcome, request.flow, written, {}, request.by)
        self._refused[start.id] = record
        self.flush.flows.append(record)
        return outcome

    # Signals, and what people ask.

    def signal(self, flow: bytes, written: WrittenSignal) -> str:
        """Take in a signal of a flow; returns what it is answered."""
        key = (flow, written.name, written.message_id)
        body = None if written.body is None else msgspec.json.encode(written.body).decode()
        before = self._known.messages.get(key)
        if before is not None:
            return self._again(before, written, body)
        message = Message(flow, written.name, written.message_id, written.event, body, "")
        live = self._live.get(flow)
        if live is not None:
            self.steps.catch_up_with(live)
        if written.name.startswith(":"):
            answer = "flow_not_found" if live is None else self._ask(live, written)
            if live is not None:
                self._keep(message, answer)
            return answer
        if live is None:
            if flow in self._refused:
                return self._misfit(message, "flow_not_found")
            return self._keep_early(message)
        if live.form.state == "ended":
            return self._misfit(message, "flow_ended")
        if written.event not in live.flow.table.signals.get(written.name, ()):
            return self._misfit(message, "unknown_event")
        kept = self._keep(message, "created")
        signal = Signal(kept.number, written.name, written.event, written.message_id)
        live.hear(signal)
        self.steps.happen_soon(live, Looked())
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
        m = message
        kept = Message(m.flow, m.name, m.message_id, m.event, m.body, answer, number)
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
        return self.steps.happen(live, happening)

    def forget_early(self, forgotten: Sequence[tuple[int, int]]) -> None:
        """Let go of signals whose flows never started, by number and shard."""
        for number, shard in forgotten:
            self.flush.forgotten.append(number)
            self.early_changes.drop(shard)
