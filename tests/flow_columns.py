"""Flows of one drawn definition, to which the same happens twice: by the rules, and in columns."""

import random
from collections.abc import Callable
from typing import Any, TypeAlias

from engine.flows.copies import STEP_COLUMNS, copy_of_steps
from engine.flows.definition import Flow as Definition
from engine.flows.flush import FlowFlush, FlowRecord, Review, ReviewEnd
from engine.flows.forms import Forms
from engine.flows.happenings import (
    Advance,
    Answered,
    Ask,
    Cancelled,
    Decided,
    Flow,
    Happening,
    Looked,
    Resolved,
    Resumed,
    Settled,
    Started,
    Stopped,
)
from engine.flows.inputs import read_input
from engine.flows.journal import Row, Signal, State
from engine.flows.live import Live, live_of
from engine.flows.money import CREATED, Verdict, seq_of
from engine.flows.rules import advance
from engine.flows.steps import Steps
from engine.flows.store import row_of
from engine.flows.table import MONEY, Table
from engine.ledger.outcomes import Outcome
from tests.flow_programs import Programs
from tests.simulation.copies import read_copy

SECOND = 1_000_000
NUMBER = 77
ACCOUNTS = {name: bytes([n]) * 16 for n, name in enumerate(("payer", "payee", "transit"), 1)}
DECLINED = (
    Outcome.exceeds_credits,
    Outcome.pending_transfer_already_posted,
    Outcome.pending_transfer_already_voided,
    Outcome.pending_transfer_expired,
)


class ByRules:
    """One flow as the rules alone have it: its rows, and the signals that came."""

    def __init__(self, flow: Flow) -> None:
        self.flow = flow
        self.rows: list[Row] = []
        self.signals: list[Signal] = []

    @property
    def state(self) -> State:
        """As its journal says, read from the beginning."""
        return State(self.flow.table, self.rows)

    def happen(self, happening: Happening, now: int, functions: set[str]) -> Advance:
        try:
            made = advance(self.flow, self.state, happening, self.signals, now, functions)
        except Exception as error:  # noqa: BLE001 - a flow that breaks is stopped
            stopped = Stopped(f"defect: {type(error).__name__}")
            made = advance(self.flow, self.state, stopped, (), now, ())
        self.rows += made.rows
        return made


Draw: TypeAlias = Callable[[ByRules, random.Random], Happening | Signal]


class Expected:
    """What a round is to write, and what is to be done after it."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.made: list[Advance] = []
        self.reviews: list[Review] = []
        self.review_ends: list[ReviewEnd] = []
        self.last: dict[bytes, Row] = {}

    def add(self, table: Table, before: Row | None, made: Advance) -> None:
        self.made.append(made)
        self.rows += made.rows
        for row in made.rows:
            if before is not None and before.state == "review":
                reason = row.detail.get("reason", "")
                end = ReviewEnd(row.flow, before.seq, row.event or row.state, row.reference, reason)
                self.review_ends.append(end)
            if row.state == "review":
                step = table.steps[row.step]
                answers = [name for name in step.branches if name != "late"]
                self.reviews.append(Review(row.flow, row.seq, step.question, answers, row.due_at))
            self.last[row.flow] = before = row


class Twins:
    """Each flow twice.

    Args:
        chance: Of all that is drawn.
        definition: What the flows are of; drawn where it is left out.
        flows: How many.
    """

    def __init__(
        self, chance: random.Random, definition: Definition | None = None, flows: int = 12
    ) -> None:
        self.chance = chance
        self.table = (definition or Programs(chance).draw()).table()
        self.now = 1_700_000_000 * SECOND
        self.functions = set(chance.choice([(), ("partner",), ("partner", "look")]))
        self.forms = Forms()
        self.planned = 0
        """Rows that were made in columns."""
        self._signals = 0
        self.rules: dict[bytes, ByRules] = {}
        self.live: dict[bytes, Live] = {}
        for _ in range(flows):
            self._add_flow()

    def _add_flow(self) -> None:
        written = {
            "payer": "payer",
            "payee": "payee",
            "amount": self.chance.choice([1, 11, 90, 2**62]),
            "part": self.chance.choice([3, 7]),
        }
        accounts = dict(ACCOUNTS)
        if self.chance.random() < 0.05:
            del accounts[self.chance.choice(sorted(accounts))]
        flow_id = self.chance.randbytes(16)
        values = read_input(written, self.table.struct)
        self.rules[flow_id] = ByRules(Flow(flow_id, self.table, values, accounts, "starter"))
        self.load(flow_id)

    def load(self, flow_id: bytes) -> None:
        """As a worker that takes over has it: from the rows alone."""
        twin = self.rules[flow_id]
        record = FlowRecord(flow_id, 1, "created", self.table.name, b"{}", {})
        first = self.forms.first_of(self.table)
        self.live[flow_id] = live_of(twin.flow, record, list(twin.rows), list(twin.signals), first)

    def run_round(self, chance: random.Random, draw: Draw | None = None) -> None:
        """Let things happen to some of the flows, and compare; `draw` says what."""
        self.chance = chance
        self.now += self.chance.choice([0, 1, SECOND, 20 * SECOND, 4000 * SECOND])
        flush = FlowFlush()
        steps = Steps(flush, self.functions, self.now)
        expected = Expected()
        flows = [f for f in self.rules if self.chance.random() < 0.9]
        for _ in range(self.chance.choice([1, 1, 2])):
            like = self.chance.getrandbits(32)
            for flow_id in flows:
                self._happen(flow_id, random.Random(like), steps, expected, draw or self._draw)
        steps.catch_up()
        self._compare(flush, steps, expected)
        if chance.random() < 0.1:
            self.forms.clear()
        for flow_id in flows:
            if self.chance.random() < 0.1:
                self.load(flow_id)

    def _happen(
        self,
        flow_id: bytes,
        like: random.Random,
        steps: Steps,
        expected: Expected,
        draw: Draw,
    ) -> None:
        """Let something happen to a flow: to those at the same place mostly the same."""
        twin, live = self.rules[flow_id], self.live[flow_id]
        drawn = self.chance if self.chance.random() < 0.3 else like
        before = twin.rows[-1] if twin.rows else None
        happening = draw(twin, drawn)
        if isinstance(happening, Signal):
            steps.catch_up_with(live)
            twin.signals.append(happening)
            live.hear(happening)
            happening = Looked()
        made = twin.happen(happening, self.now, self.functions)
        expected.add(self.table, before, made)
        if isinstance(happening, Started | Looked | Settled | Answered):
            steps.happen_soon(live, happening)
        else:
            assert steps.happen(live, happening) == made.answer

    def _draw(self, twin: ByRules, chance: random.Random) -> Happening | Signal:
        state = twin.state
        if state.last is None:
            return Started(chance.choice([0, 0, 0, 0, self.now + 5 * SECOND]))
        last = state.last
        step = self.table.steps[last.step]
        kind = chance.random()
        if kind < 0.08:
            return self._draw_person(last, chance)
        if kind < 0.2:
            return Looked(chance.choice([0, self.now]))
        if kind < 0.7 and last.state == "asked" and step.kind in MONEY:
            seq = seq_of(last.request) + (chance.random() < 0.05)
            reason = chance.choice(DECLINED).name
            verdicts = [CREATED, CREATED, CREATED, Verdict("declined", reason)]
            return Settled(seq, chance.choice([*verdicts, Verdict("taken", "id_taken")]))
        if kind < 0.7 and step.kind == "call":
            outcome = chance.choice(["done", "done", "refused", "again", "unknown"])
            return Answered(last.seq, outcome)
        if kind < 0.9 and self.table.signals:
            return self._draw_signal(last, chance)
        return Looked(self.now)

    def _draw_signal(self, last: Row, chance: random.Random) -> Signal:
        """Mostly one that is waited for."""
        step = self.table.steps[last.step]
        names = sorted(self.table.signals)
        name = chance.choice(names)
        if step.kind == "wait" and chance.random() < 0.8:
            name = step.signal
        event = chance.choice(sorted(self.table.signals[name]))
        self._signals += 1
        return Signal(self._signals, name, event, f"message {self._signals}% of")

    def _draw_person(self, last: Row, chance: random.Random) -> Happening:
        events = sorted(self.table.steps[last.step].branches) or ["done"]
        return chance.choice(
            [
                Cancelled("somebody"),
                Resumed("ann"),
                Resolved(chance.choice(events), "ann", "because"),
                Decided(chance.choice(events), "ben", chance.choice([0, last.seq])),
                Stopped("by hand"),
            ]
        )

    # Comparing.

    def _compare(self, flush: FlowFlush, steps: Steps, expected: Expected) -> None:
        self.planned += flush.steps - len(flush.rows)
        assert flush.steps == len(expected.rows)
        copy = copy_of_steps(flush.rows, flush.planned, NUMBER, self.now)
        written = read_copy("flows.steps", list(STEP_COLUMNS), b"".join(copy.pieces))
        assert {row["number"] for row in written} <= {NUMBER}
        assert _sorted(map(row_of, written)) == _sorted(expected.rows)

        made = expected.made
        asks = [Ask(a.flow, a.seq, a.request) for each in made for a in each.asks]
        assert sorted(map(_fields, steps.asks)) == sorted(map(_fields, asks))
        assert sorted(map(_fields, steps.calls)) == sorted(
            _fields(c) for m in made for c in m.calls
        )
        assert sorted(map(_fields, flush.reviews)) == sorted(map(_fields, expected.reviews))
        assert sorted(map(_fields, flush.review_ends)) == sorted(map(_fields, expected.review_ends))

        last = expected.last
        assert steps.timers == {flow: row.due_at for flow, row in last.items()}
        assert sorted(flush.ended) == sorted(f for f, row in last.items() if row.state == "ended")
        assert flush.open == {f: _wake_at(row) for f, row in last.items() if row.state != "ended"}
        for flow_id, twin in self.rules.items():
            self._compare_flow(self.live[flow_id], twin)

    def _compare_flow(self, live: Live, twin: ByRules) -> None:
        last = twin.rows[-1] if twin.rows else None
        assert live.last == last
        if last is not None:
            assert (live.form.seq, live.form.step) == (last.seq, last.step)
            assert (live.form.state, live.form.event) == (last.state, last.event)
            assert live.due_at == last.due_at
        assert list(live.signals) == twin.signals
        consumed = twin.state.consumed
        assert list(live.unheard) == [s for s in twin.signals if s.number not in consumed]
        if self.chance.random() < 0.3:  # what is read is written out, and kept
            assert list(live.rows) == twin.rows
            assert vars(live.state) == vars(twin.state)


def _fields(value: Any) -> tuple[Any, ...]:
    return tuple(getattr(value, name) for name in value.__struct_fields__)


def _sorted(rows: Any) -> list[Row]:
    return sorted(rows, key=lambda row: (row.flow, row.seq))


def _wake_at(row: Row) -> int | None:
    return row.time if row.state in {"asked", "unknown"} else row.due_at or None
