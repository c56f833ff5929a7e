"""What a flow does next: one flow at a time, complete, the specification.

No clock, no chance, no server: time and what came from outside are arguments. A flow is at one
step. Something happens (a verdict, a signal, a time that is over, a decision); rows are added to
the journal until the flow waits again; and what is to be asked of others is handed back, to be sent
only after the rows are committed.

    ready    a call whose code no worker here has
    asked    committed; now, and only now, others are asked; the request is frozen
    waiting  for a signal or a time
    review   for a person
    unknown  asked, and nobody knows: left by the branch that the definition names
    done     with an event, which leads to the next step
    ended    with a name
    stopped  with a reason: only a person leads out
"""

from collections.abc import Collection, Sequence

from engine.flows.answers import give_up, settle, take_answer, take_child
from engine.flows.happenings import (
    Advance,
    Answered,
    Cancelled,
    ChildAnswered,
    ChildEnded,
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
from engine.flows.journal import Signal, State
from engine.flows.people import cancel, decide, resolve, resume, start
from engine.flows.turn import Turn


def advance(
    flow: Flow,
    state: State,
    happening: Happening,
    signals: Sequence[Signal],
    now: int,
    functions: Collection[str] = frozenset(),
) -> Advance:
    """Let something happen to a flow.

    Args:
        flow: The flow.
        state: What its journal says; the new rows are applied to it.
        happening: What.
        signals: Those that came for it, oldest first.
        now: Microseconds since 1970.
        functions: The names of the functions that can be called here.
    """
    turn = Turn(flow, state, signals, now, functions)
    _happen(turn, happening)
    return turn.made


def _happen(turn: Turn, happening: Happening) -> None:
    """See what comes of it."""
    last = turn.state.last
    match happening:
        case Started(start_at):
            if last is None:
                start(turn, start_at)
        case Looked(heard_until):
            _look(turn, heard_until)
        case Settled(seq, verdict):
            settle(turn, seq, verdict)
        case Answered(seq, outcome, detail):
            take_answer(turn, seq, outcome, detail)
        case ChildAnswered(seq, outcome):
            take_child(turn, seq, outcome)
        case ChildEnded(end):
            if last is not None and last.state == "waiting" and last.event == "child":
                known = end in turn.step.branches and end not in {"declined", "ended"}
                turn.go(turn.leave(end if known else "ended", reference=end))
        case Decided():
            turn.made.answer = decide(turn, happening)
        case Cancelled(by):
            turn.made.answer = cancel(turn, by)
        case Resumed():
            turn.made.answer = resume(turn, happening)
        case Resolved():
            turn.made.answer = resolve(turn, happening)
        case Stopped(reason):
            turn.stop(reason)


def _look(turn: Turn, heard_until: int) -> None:
    last = turn.state.last
    if last is None or last.state in {"ended", "stopped"}:
        return
    waits = last.state in {"waiting", "review"}
    if waits and turn.step.kind in {"wait", "review"} and last.event != "start_at":
        following = turn.hear()
        if following is not None:
            turn.go(following)
            return
    if not last.due_at or last.due_at > turn.now:
        return
    if last.event == "start_at":
        turn.go(0)
    elif turn.step.kind == "sleep":
        turn.go(turn.leave("done"))
    elif waits and turn.step.kind in {"wait", "review"}:
        if last.due_at <= heard_until and "late" in turn.step.branches:
            turn.go(turn.leave("late"))
    elif turn.step.kind == "call":
        if last.state == "asked":
            give_up(turn, {"reason": "time_out"})
        else:
            again = last.attempt + (last.state == "waiting")
            _look_for_code(turn, again)


def _look_for_code(turn: Turn, attempt: int) -> None:
    if turn.last.state == "ready" and turn.step.function not in turn.functions:
        return
    turn.call(turn.last.step, turn.step, attempt)
