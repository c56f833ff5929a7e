"""What comes back of what was asked: verdicts of the ledger, calls, children."""

from typing import Any, Final

from engine.flows.money import HOLD_OVER, VOID_DONE, Verdict, seq_of
from engine.flows.table import MONEY
from engine.flows.turn import CHILD_LOOK, Turn

BACKOFF: Final = 1_000_000
"""Microseconds before the second attempt of a call; doubled for each one."""

BACKOFF_MAX: Final = 300_000_000


def settle(turn: Turn, seq: int, verdict: Verdict) -> None:
    """The ledger has said what became of a money step."""
    asked = turn.state.asked
    if asked is None or turn.step.kind not in MONEY or seq_of(asked.request) != seq:
        return
    if verdict.kind == "taken":
        turn.stop(f"id_taken: {verdict.reason}")
        return
    step = turn.step
    detail = {"reason": verdict.reason} if verdict.reason else {}
    good = verdict.kind == "created"
    if step.kind not in {"post", "void"}:
        event = "created" if good else "declined"
    else:
        good = good or (step.kind == "void" and verdict.reason in VOID_DONE)
        event = "done" if good else "failed"
        if not good:
            detail["hold"] = "over" if verdict.reason in HOLD_OVER else "open"
    if event not in step.branches:
        turn.append(turn.last.step, "done", event, detail=detail)
        turn.stop(f"cancel_failed: {verdict.reason}")
        return
    turn.go(turn.leave(event, detail=detail, transfer_id=asked.transfer_id))


def take_answer(turn: Turn, seq: int, outcome: str, detail: dict[str, Any]) -> None:
    """An attempt of a call came back."""
    last = turn.state.last
    if last is None or last.state in {"ended", "stopped"}:
        return
    if last.state == "asked" and turn.step.kind == "call" and last.seq == seq:
        if outcome in {"done", "refused"}:
            turn.go(turn.leave(outcome, detail=detail))
        elif outcome == "again":
            _try_again(turn, detail)
        else:
            give_up(turn, detail)
        return
    _late_answer(turn, seq, outcome, detail)


def _late_answer(turn: Turn, seq: int, outcome: str, detail: dict[str, Any]) -> None:
    """What comes too late is evidence: it ends a review that was opened for want of it."""
    if outcome not in {"done", "refused"} or turn.last.state != "review":
        return
    for number in turn.step.listens:
        asked = turn.state.outside.get(number)
        if asked is not None and asked.seq == seq:
            turn.append(turn.last.step, "done", "evidence")
            row = turn.append(number, "done", outcome, detail=detail, attempt=asked.attempt)
            turn.go(turn.after(row))
            return


def _try_again(turn: Turn, detail: dict[str, Any]) -> None:
    """Nothing happened: so it is tried again, later and later, or was refused."""
    attempt = turn.last.attempt
    if attempt < turn.step.attempts_max:
        _wait_for_attempt(turn, "again", detail)
    elif turn.state.is_unsure:  # this attempt did nothing; an earlier one may have
        give_up(turn, detail)
    else:
        turn.go(turn.leave("refused", detail=detail | {"reason": "attempts"}))


def give_up(turn: Turn, detail: dict[str, Any]) -> None:
    """Nobody knows. Only what is declared idempotent is called again."""
    step, last = turn.step, turn.last
    if step.idempotent and last.attempt < step.attempts_max:
        _wait_for_attempt(turn, "unsure", detail)
        return
    row = turn.append(last.step, "unknown", "unknown", attempt=last.attempt, detail=detail)
    turn.go(turn.after(row))


def _wait_for_attempt(turn: Turn, event: str, detail: dict[str, Any]) -> None:
    last = turn.last
    due_at = turn.now + min(BACKOFF << (last.attempt - 1), BACKOFF_MAX)
    values = {"attempt": last.attempt, "due_at": due_at, "detail": detail}
    turn.append(last.step, "waiting", event, **values)


def take_child(turn: Turn, seq: int, outcome: str) -> None:
    """The start of a child was answered."""
    last = turn.state.last
    if last is None or last.state != "asked" or turn.step.kind != "start" or last.seq != seq:
        return
    if outcome not in {"created", "exists"}:
        turn.go(turn.leave("declined", detail={"reason": outcome}))
    elif turn.step.wait_end and not turn.state.is_cancelling:
        due_at = turn.now + CHILD_LOOK
        values = {"attempt": last.attempt, "due_at": due_at, "transfer_id": last.transfer_id}
        turn.append(last.step, "waiting", "child", **values)
    else:
        turn.go(turn.leave("created"))
