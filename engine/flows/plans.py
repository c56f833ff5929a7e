"""What the rules did with one flow, as a plan for all of its form to which the same happens.

A plan is made of the rows of the first flow of a group, and is used only if it says of that flow
what the rules have said. What is a flow's own (ids, amounts, times, who sent its signal) has a
place in it; all else is the same for each of them.
"""

from collections.abc import Sequence
from typing import Any, Final, Literal

import msgspec

from engine.flows.forms import Form
from engine.flows.happenings import Advance
from engine.flows.journal import Row, Signal, StateName
from engine.flows.live import Live
from engine.flows.requests import Asked, requests_of

_PLANNED: Final = frozenset({"hold", "move", "chain", "post", "void"})
"""Steps that are asked for in columns."""


class Pattern(msgspec.Struct, frozen=True, gc=False):
    """A row, but for what is a flow's own."""

    seq: int
    step: int
    state: StateName
    event: str
    attempt: int
    due_after: int
    """Microseconds; zero for never."""
    transfer: Literal["", "asked", "new"]
    """None, that of what was asked before, or of what this row asks."""
    signal: int
    """The place of the signal that it consumes, or -1."""
    detail: dict[str, Any]


class Plan(msgspec.Struct, frozen=True, gc=False):
    """Rows for each flow of a group."""

    patterns: tuple[Pattern, ...]
    form: Form
    """Of the journal with them."""
    left: tuple[int, ...]
    """The places of the signals that they do not consume."""
    asked: Asked | None
    """What the last row asks the ledger."""


class Planned(msgspec.Struct, gc=False):
    """The rows of one flow by a plan."""

    plan: Plan
    now: int
    asked_id: bytes
    new_id: bytes
    request: bytes
    unheard: Sequence[Signal]
    """Its signals, before."""
    before: "Planned | None" = None
    """What was planned before, and is not written out."""

    def rows_of(self, flow: bytes) -> list[Row]:
        """Written out."""
        rows = []
        for p in self.plan.patterns:
            signal = self.unheard[p.signal] if p.signal >= 0 else None
            row = Row(
                flow,
                p.seq,
                p.step,
                p.state,
                p.event,
                p.attempt,
                self.now + p.due_after if p.due_after else 0,
                {"": b"", "asked": self.asked_id, "new": self.new_id}[p.transfer],
                signal.message_id if signal else "",
                signal.number if signal else 0,
                self.request if p.transfer == "new" else b"",
                p.detail,
                self.now,
            )
            rows.append(row)
        return rows


class Before(msgspec.Struct):
    """What the rows of a plan are made of, beside the flow: as it was before them."""

    form: Form
    unheard: Sequence[Signal]
    asked_id: bytes


def plan_of(live: Live, before: Before, made: Advance) -> Plan | None:
    """The plan of what the rules did with a flow; None where they are to be asked each time."""
    states = {before.form.state, *(row.state for row in made.rows)}
    if made.calls or made.begins or made.answer or "review" in states:
        return None
    now = made.rows[0].time if made.rows else 0
    asked = None
    places = {signal.number: place for place, signal in enumerate(before.unheard)}
    patterns = []
    for row in made.rows:
        transfer: Literal["", "asked", "new"] = "asked" if row.transfer_id else ""
        if row.request:
            if live.flow.table.steps[row.step].kind not in _PLANNED:
                return None
            asked = Asked(live.flow.table, row.step, row.attempt, row.seq, _hold_of(live, row))
            transfer = "new"
        pattern = Pattern(
            row.seq,
            row.step,
            row.state,
            row.event,
            row.attempt,
            row.due_at - now if row.due_at else 0,
            transfer,
            places.pop(row.signal) if row.signal else -1,
            row.detail,
        )
        patterns.append(pattern)
    plan = Plan(tuple(patterns), live.form, tuple(places.values()), asked)
    return plan if _says_the_same(plan, live, before, made) else None


def _hold_of(live: Live, row: Row) -> int:
    """The row whose hold is posted or voided; zero where none is."""
    step = live.flow.table.steps[row.step]
    if step.kind not in {"post", "void"}:
        return 0
    hold = live.state.holds[step.of].id
    return max(r.seq for r in live.rows if r.request[:16] == hold and r.seq < row.seq)


def _says_the_same(plan: Plan, live: Live, before: Before, made: Advance) -> bool:
    """Whether it says of its first flow what the rules have said."""
    planned = plan_rows(plan, [live], [before], made.rows[0].time if made.rows else 0)[0]
    asks = [planned.request] if plan.asked else []
    return planned.rows_of(live.flow.id) == made.rows and [a.request for a in made.asks] == asks


def plan_rows(
    plan: Plan, lives: Sequence[Live], before: Sequence[Before | Live], now: int
) -> list[Planned]:
    """The rows of many flows.

    Args:
        plan: Of them all.
        lives: The flows.
        before: What each was before.
        now: Microseconds since 1970.
    """
    new_ids: Sequence[bytes] = [b""] * len(lives)
    requests = new_ids
    asked = plan.asked
    if asked is not None:
        holds = [live.request_of(asked.hold) for live in lives] if asked.hold else []
        new_ids, requests = requests_of(asked, [live.flow for live in lives], holds)
    return [
        Planned(plan, now, former.asked_id, new_id, request, former.unheard)
        for former, new_id, request in zip(before, new_ids, requests, strict=True)
    ]
