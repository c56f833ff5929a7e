"""A flow goes from step to step, until it waits for something."""

from collections.abc import Collection, Sequence
from typing import Any, Final

import msgspec

from engine.flows.happenings import Advance, Ask, Begin, Call, Flow
from engine.flows.ids import call_key, child_id
from engine.flows.inputs import value_of
from engine.flows.journal import Row, Signal, State, StateName
from engine.flows.money import pack
from engine.flows.requests import transfers_of
from engine.flows.table import CANCEL_NEXT, MONEY, SEQ_MAX, Step

LOOK_AGAIN: Final = 5_000_000
"""Microseconds after which what was asked is looked for in the ledger."""

CHILD_LOOK: Final = 1_000_000
"""Microseconds between two looks at a child that is waited for."""

CODE_LOOK: Final = 5_000_000
"""Microseconds between two looks whether a worker has the code of a call."""

DEPTH_MAX: Final = 8
"""Flows that start flows that start flows."""

ROWS_LEFT_MIN: Final = 20
"""A journal with less room stops its flow before it is full."""


class Turn:
    """One flow, one happening: rows are appended until the flow waits again."""

    def __init__(
        self,
        flow: Flow,
        state: State,
        signals: Sequence[Signal],
        now: int,
        functions: Collection[str],
    ) -> None:
        self.made = Advance([], [], [], [])
        self.flow = flow
        self.table = flow.table
        self.state = state
        self.signals = signals
        self.now = now
        self.functions = functions

    # The journal.

    @property
    def last(self) -> Row:
        """The newest row of the journal."""
        last = self.state.last
        if last is None:
            raise LookupError("the flow has not begun")
        return last

    @property
    def step(self) -> Step:
        """The step where the flow is."""
        return self.table.steps[self.last.step]

    def append(self, step: int, state: StateName, event: str = "", **values: Any) -> Row:
        """Add a row to the journal."""
        seq = self.state.seq + 1
        row = Row(self.flow.id, seq, step, state, event, time=self.now, **values)
        self.state.apply(row)
        self.made.rows.append(row)
        return row

    def stop(self, reason: str) -> None:
        """Stop: only a person leads out."""
        last = self.state.last
        if last is None or last.state not in {"ended", "stopped"}:
            self.append(last.step if last else 0, "stopped", reason)

    def leave(self, event: str, **values: Any) -> int:
        """The current step is done; returns the next one."""
        row = self.append(self.last.step, "done", event, attempt=self.last.attempt, **values)
        return self.after(row)

    def after(self, row: Row) -> int:
        """Where an event leads."""
        if self.state.is_cancelling:
            return self._cancel_target()
        branch = self.table.steps[row.step].branches[row.event]
        if branch.to == CANCEL_NEXT:
            return self._cancel_target()
        if branch.limit and self.state.taken[row.step, row.event] > branch.limit:
            return branch.otherwise
        return branch.to

    def _cancel_target(self) -> int:
        held = next(iter(self.state.held), None)
        return self.table.cancelled_end if held is None else self.table.cancels[held]

    # Entering steps.

    def go(self, number: int) -> None:
        """Enter a step, and all that follow at once."""
        following: int | None = number
        while following is not None:
            if self.state.seq > SEQ_MAX - ROWS_LEFT_MIN:
                self.stop("journal_full")
                return
            following = self._enter(following)

    def _enter(self, number: int) -> int | None:
        step = self.table.steps[number]
        due_at = self.now + step.within if step.within else 0
        if step.kind in MONEY:
            self._ask(number)
        elif step.kind == "end":
            if self.state.held:
                self.stop("open_hold")
            else:
                self.append(number, "ended", step.name)
        elif step.kind == "wait":
            self.append(number, "waiting", due_at=due_at)
            return self.hear()
        elif step.kind == "sleep":
            self.append(number, "waiting", due_at=due_at)
        elif step.kind == "review":
            if step.when is not None and not value_of(step.when, self.flow.values):
                row = self.append(number, "done", "approved", detail={"passed": True})
                return self.after(row)
            self.append(number, "review", due_at=due_at)
            return self.hear()
        elif step.kind == "call":
            self.call(number, step, 1)
        else:
            return self._begin(number, step)
        return None

    def _ask(self, number: int) -> None:
        transfers = transfers_of(self.flow, self.state, number, self.state.seq + 1)
        row = self.append(
            number,
            "asked",
            attempt=self.state.visits.get(number, 0) + 1,
            due_at=self.now + LOOK_AGAIN,
            transfer_id=transfers[0].id,
            request=pack(transfers),
        )
        self.made.asks.append(Ask(self.flow.id, row.seq, row.request))

    def call(self, number: int, step: Step, attempt: int) -> None:
        """Make an attempt of a call, or wait for its code."""
        if step.function not in self.functions:
            self.append(number, "ready", attempt=attempt, due_at=self.now + CODE_LOOK)
            return
        row = self.append(number, "asked", attempt=attempt, due_at=self.now + step.within)
        key = call_key(self.flow.id, number, self.state.visits[number])
        self.made.calls.append(
            Call(self.flow.id, row.seq, attempt, key, step.function, step.within)
        )

    def _begin(self, number: int, step: Step) -> int | None:
        occurrence = self.state.visits.get(number, 0) + 1
        child = child_id(self.flow.id, number, occurrence)
        written = {k: value_of(e, self.flow.values) for k, e in step.child_input.items()}
        request = msgspec.json.encode(written)
        row = self.append(
            number,
            "asked",
            attempt=occurrence,
            due_at=self.now + LOOK_AGAIN,
            transfer_id=child,
            request=request,
        )
        if self.flow.depth >= DEPTH_MAX:
            return self.leave("declined", detail={"reason": "too_deep"})
        self.made.begins.append(Begin(self.flow.id, row.seq, child, step.child, request))
        return None

    def hear(self) -> int | None:
        """Consume the oldest signal that the current step waits for; returns the next step."""
        step, number = self.step, self.last.step
        listened = (number,) if step.kind == "wait" else step.listens
        for signal in self.signals:
            if signal.number in self.state.consumed:
                continue
            for at in listened:
                wait = self.table.steps[at]
                if wait.signal != signal.name or signal.event not in wait.branches:
                    continue
                if step.kind == "review":
                    self.append(number, "done", "evidence")
                row = self.append(
                    at, "done", signal.event, signal=signal.number, reference=signal.message_id
                )
                return self.after(row)
        return None
