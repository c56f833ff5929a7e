"""What people ask of a flow: decisions, an end, and the way out where it has stopped."""

from typing import Any

import msgspec

from engine.flows.answers import give_up
from engine.flows.happenings import Ask, Decided, Resolved, Resumed
from engine.flows.journal import Row
from engine.flows.money import seq_of
from engine.flows.table import MONEY
from engine.flows.turn import Turn


def decide(turn: Turn, decision: Decided) -> str:
    """Answer the review that is open; the first decision wins."""
    state, last = turn.state, turn.state.last
    seq = decision.seq
    if last is None or last.state != "review" or seq not in {0, last.seq}:
        known = state.reviews.get(seq or max(state.reviews, default=0))
        return known or "no_open_review"
    if decision.by and decision.by == turn.flow.started_by:
        return "not_by_starter"
    step = turn.step
    if decision.answer not in step.branches or decision.answer == "late":
        return "unknown_answer"
    newest = max((signal.number for signal in turn.signals), default=0)
    if step.listens and decision.seen is not None and newest > decision.seen:
        return "newer_evidence"
    detail = {"reason": decision.reason} if decision.reason else {}
    turn.go(turn.leave(decision.answer, reference=decision.by, detail=detail))
    return "decided"


def cancel(turn: Turn, by: str) -> str:
    """End the flow, where nothing has been done that cannot be taken back."""
    state, last = turn.state, turn.state.last
    if last is None:
        return "flow_not_found"
    if last.state == "ended":
        return "cancelled" if last.step == turn.table.cancelled_end else "ended"
    if state.is_cancelling:
        return "cancelled"
    if state.has_reached or last.state == "stopped":
        return "too_late"
    if last.state == "asked":
        # Whether the hold is there is not known yet: what is there afterwards is voided.
        values = msgspec.structs.asdict(last) | {"event": "cancel", "reference": by}
        _copy(turn, values)
    else:
        turn.go(turn.leave("cancel", reference=by))
    return "cancelled"


def _copy(turn: Turn, values: dict[str, Any]) -> Row:
    for name in ("flow", "seq", "time"):
        del values[name]
    return turn.append(**values)


def resume(turn: Turn, resumed: Resumed) -> str:
    """Go on where the flow stopped."""
    last, before = turn.state.last, turn.state.before
    if last is None or last.state != "stopped":
        return "not_stopped"
    if before is None:
        start(turn, 0)
        return "resumed"
    held = turn.state.held
    over = [step for step, hold in held.items() if hold.id in resumed.over]
    if before.state in {"done", "unknown"}:
        if last.event == "open_hold" and len(over) < len(held):
            return "hold_open"
        detail = {"over": over} if over else {}
        turn.append(before.step, "done", "resumed", reference=resumed.by, detail=detail)
        turn.go(turn.after(before))
        return "resumed"
    values = msgspec.structs.asdict(before) | {"reference": resumed.by}
    row = _copy(turn, values | {"signal": 0})
    step = turn.step
    if row.state == "asked" and step.kind in MONEY:
        turn.made.asks.append(Ask(turn.flow.id, seq_of(row.request), row.request))
    elif row.state == "asked" and step.kind == "call":
        give_up(turn, {"reason": "stopped"})
    return "resumed"


def resolve(turn: Turn, resolved: Resolved) -> str:
    """Take a person's word for what came of a step; not for money, which the ledger knows."""
    last, before = turn.state.last, turn.state.before
    if last is None or last.state == "ended" or before is None:
        return "ended" if last is not None else "flow_not_found"
    step = turn.table.steps[before.step]
    if resolved.event not in step.branches:
        return "unknown_event"
    if step.kind in MONEY and (last.state != "stopped" or resolved.event in {"created", "done"}):
        return "settled_by_ledger"
    detail = {"reason": resolved.reason, "resolved": True}
    if last.state == "stopped":
        _copy(
            turn,
            msgspec.structs.asdict(before)
            | {"state": "waiting", "event": "resolving", "signal": 0, "due_at": 0, "request": b""},
        )
    turn.go(turn.leave(resolved.event, reference=resolved.by, detail=detail))
    return "resolved"


def start(turn: Turn, start_at: int) -> None:
    """Enter the first step, now or at a time."""
    if start_at > turn.now:
        turn.append(0, "waiting", "start_at", due_at=start_at)
    else:
        turn.go(0)
