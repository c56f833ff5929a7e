"""What is refused when it is defined: tables that could lose money, lead nowhere, or never end.

All paths are walked, with what is known on each: which holds are open, what was moved, and whether
something was sent outside of which nobody has heard since. A message says what is wrong, on which
path, and what to write instead.
"""

from collections import deque
from typing import Final

import msgspec

from engine.errors import InputError
from engine.flows.table import MONEY, SEQ_MAX, STEPS_MAX, Branch, Step, Table

POINTS_MAX: Final = 200_000
"""A definition with more ways through it is refused: nobody could read it either."""

ROWS_OF_A_VISIT: Final = 4
"""Most rows of the journal that a visit of a step takes, attempts of calls aside."""


def check_table(table: Table) -> None:
    """Refuse a table that is not sound.

    Raises:
        InputError: Saying what is wrong, and what to write.
    """
    if len(table.steps) > STEPS_MAX:
        raise _refused(table, f"it has {len(table.steps)} steps, and {STEPS_MAX} is the most")
    for number in range(len(table.steps)):
        if not _cancels(table, number):
            _check_events(table, table.steps[number])
    _check_loops(table)
    _check_length(table)
    _Walk(table).run()


def _refused(table: Table, message: str) -> InputError:
    return InputError(f"flow {table.name} version {table.version}: {message}")


def _cancels(table: Table, number: int) -> bool:
    return number in table.cancels.values() or number == table.cancelled_end


def targets(branch: Branch) -> tuple[int, ...]:
    """Where a branch may lead."""
    return (branch.to, branch.otherwise) if branch.limit else (branch.to,)


# Each step by itself.


def _check_events(table: Table, step: Step) -> None:
    label = f"{step.kind} {step.name!r}"
    if step.kind == "wait":
        if not set(step.branches) - {"late"}:
            raise _refused(table, f"{label} waits for no event: write .on(name).go(step)")
        if "late" in step.branches and not step.within:
            raise _refused(table, f"{label} is never late: give within= or take .late away")
    missing = [event for event in step.events if event not in step.branches]
    if step.kind == "review":
        asked = set(step.branches) - {"late"}
        if not asked or asked & {"approved", "refused"}:
            missing += [event for event in ("approved", "refused") if event not in asked]
        if step.when is not None and "approved" not in asked:
            missing.append("approved")
        if "late" in step.branches and not step.within:
            raise _refused(table, f"{label} is never late: give within= or take .late away")
    if missing:
        event = missing[0]
        raise _refused(
            table,
            f"{label} has no branch for its event {event}: write .{event}.go(step), "
            f".{event}.end(name) or .{event}.review(question, answer=step)",
        )


# Loops.


def _check_loops(table: Table) -> None:
    """Without the branches that have a limit, nothing leads back to where it came from."""
    state: dict[int, int] = {}
    for first in range(len(table.steps)):
        if first in state:
            continue
        stack = [(first, iter(_onwards(table, first)))]
        state[first] = 1
        while stack:
            number, onwards = stack[-1]
            to = next(onwards, None)
            if to is None:
                state[number] = 2
                stack.pop()
            elif state.get(to) == 1:
                loop = [n for n, _ in stack]
                named = " -> ".join(table.steps[n].name for n in [*loop[loop.index(to) :], to])
                raise _refused(
                    table,
                    f"a loop without a limit: {named}; write the branch that leads back as "
                    ".go(step, limit=N, otherwise=step)",
                )
            elif to not in state:
                state[to] = 1
                stack.append((to, iter(_onwards(table, to))))


def _onwards(table: Table, number: int) -> list[int]:
    step = table.steps[number]
    found = []
    for branch in step.branches.values():
        if branch.to < 0:
            continue
        found.append(branch.otherwise if branch.limit else branch.to)
    return found


def _check_length(table: Table) -> None:
    """Sequence numbers are two bytes: the longest life of a flow fits."""
    again = sum(b.limit for step in table.steps for b in step.branches.values())
    rows = sum(ROWS_OF_A_VISIT + 2 * (step.attempts_max - 1) for step in table.steps)
    if (again + 1) * rows > SEQ_MAX:
        raise _refused(
            table,
            f"its loops may take {(again + 1) * rows} rows of the journal, and {SEQ_MAX} is the "
            "most: lower a limit, or start a flow for each round",
        )


# All paths, with what is known on each.


class _Point(msgspec.Struct, frozen=True):
    """A step about to be entered, and what is known there."""

    number: int
    open: frozenset[int] = frozenset()
    """Holds that are open, each for sure."""
    doubtful: frozenset[int] = frozenset()
    """Holds whose post or void failed: open, or ended by others."""
    moved: frozenset[int] = frozenset()
    """Steps that have moved money which was not moved back."""
    unheard: int = -1
    """A wait or a call that may have reached the outside, of which nothing was heard; else -1."""


class _Walk:
    def __init__(self, table: Table) -> None:
        self._table = table
        self._came_from: dict[_Point, tuple[_Point, str] | None] = {_Point(0): None}
        self._queue = deque([_Point(0)])

    def run(self) -> None:
        """Walk them all. Raises InputError at the first that is not sound."""
        while self._queue:
            if len(self._came_from) > POINTS_MAX:
                raise self._refused("it has too many ways through it: split it into flows", None)
            point = self._queue.popleft()
            self._enter(point)

    def _refused(self, message: str, point: _Point | None) -> InputError:
        if point is None:
            return _refused(self._table, message)
        words: list[str] = []
        at: _Point | None = point
        while at is not None:
            words.insert(0, repr(self._table.steps[at.number].name))
            came = self._came_from[at]
            if came is not None:
                words.insert(0, f"({came[1]})")
            at = came[0] if came is not None else None
        return _refused(self._table, f"{message}; on the path {' '.join(words)}")

    def _add(self, point: _Point, event: str, branch: Branch, **known: object) -> None:
        for to in targets(branch):
            found = msgspec.structs.replace(point, number=to, **known)
            if found not in self._came_from:
                self._came_from[found] = (point, event)
                self._queue.append(found)

    def _enter(self, point: _Point) -> None:
        step = self._table.steps[point.number]
        if step.kind in {"void", "reverse", "end"} and point.unheard >= 0:
            raise self._unheard(step, point)
        if step.kind in MONEY:
            self._enter_money(step, point)
        elif step.kind == "end":
            self._enter_end(point)
        elif step.kind in {"wait", "call"}:
            self._enter_outside(step, point)
        elif step.kind == "review":
            self._enter_review(step, point)
        else:
            for event, branch in step.branches.items():
                self._add(point, event, branch)

    def _unheard(self, step: Step, point: _Point) -> InputError:
        outside = self._table.steps[point.unheard]
        return self._refused(
            f"{step.kind} {step.name!r} follows the {outside.kind} {outside.name!r} of which "
            "nothing was heard: what was sent may have been done. Lead `late`, `unknown` and "
            "`sleep` to a review, or to a step that finds out; or, if nothing can have been sent, "
            "declare "
            f"nothing_sent=True on {outside.name!r}",
            point,
        )

    def _enter_money(self, step: Step, point: _Point) -> None:
        of = step.of
        for event, branch in step.branches.items():
            good = event in {"created", "done"}
            known: dict[str, object] = {}
            if step.kind == "hold" and good:
                known["open"] = point.open | {point.number}
            elif step.kind in {"post", "void"}:
                known["open"] = point.open - {of}
                known["doubtful"] = point.doubtful - {of} if good else point.doubtful | {of}
                if step.kind == "post" and good:
                    known["moved"] = point.moved | {point.number}
            elif step.kind == "reverse" and good:
                known["moved"] = point.moved - {of}
            elif step.kind in {"move", "chain"} and good:
                known["moved"] = point.moved | {point.number}
            self._check_money(step, point)
            self._add(point, event, branch, **known)

    def _check_money(self, step: Step, point: _Point) -> None:
        held = point.open | point.doubtful
        if step.kind == "hold" and point.number in held:
            raise self._refused(
                f"hold {step.name!r} is visited again before it was posted or voided: do that "
                "first",
                point,
            )
        if step.kind in {"post", "void"} and step.of not in held:
            hold = self._table.steps[step.of].name
            raise self._refused(
                f"{step.kind} {step.name!r} is not sure to find the hold {hold!r} open: it "
                "comes only after .created of the hold, and once (one post or void a hold)",
                point,
            )
        if step.kind == "reverse" and step.of not in point.moved:
            moved = self._table.steps[step.of].name
            raise self._refused(
                f"reverse {step.name!r} is not sure to find that {moved!r} has moved money: it "
                "comes only after that, and once",
                point,
            )

    def _enter_end(self, point: _Point) -> None:
        for hold in sorted(point.open):
            name = self._table.steps[hold].name
            raise self._refused(
                f"the flow ends with the hold {name!r} neither posted nor voided: add a post or "
                "a void before the end",
                point,
            )

    def _enter_outside(self, step: Step, point: _Point) -> None:
        if not step.nothing_sent:
            for hold in sorted(point.open | point.doubtful):
                held = self._table.steps[hold]
                if held.timeout_seconds:
                    raise self._refused(
                        f"the hold {held.name!r} has a time-out, and may end by itself while the "
                        f"{step.kind} {step.name!r} is unknown: its money would be free "
                        "to be spent twice. Take the time-out away: the flow has the deadline, not "
                        "the hold",
                        point,
                    )
        for event, branch in step.branches.items():
            unheard = point.unheard
            if event not in {"late", "unknown"}:
                unheard = -1
            elif not step.nothing_sent:
                unheard = point.number
            self._add(point, event, branch, unheard=unheard)

    def _enter_review(self, step: Step, point: _Point) -> None:
        for event, branch in step.branches.items():
            # Where it is passed because its condition is false no person has looked.
            by_person = event != "late" and not (event == "approved" and step.when is not None)
            self._add(point, event, branch, unheard=-1 if by_person else point.unheard)
        for number in step.listens:
            for event, branch in self._table.steps[number].branches.items():
                if event not in {"late", "unknown"}:
                    self._add(point, event, branch, unheard=-1)
