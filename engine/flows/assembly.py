"""From what a user has written to the table: numbers, names, and what goes without saying."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec

from engine.errors import InputError
from engine.flows.checks import check_table
from engine.flows.handles import Again, StepHandle
from engine.flows.inputs import microseconds_of
from engine.flows.table import CANCEL_NEXT, Branch, Step, Table

if TYPE_CHECKING:
    from engine.flows.definition import Flow


def assemble(flow: "Flow", given: list[StepHandle], ends: Mapping[str, StepHandle]) -> Table:
    """The table of a definition.

    Raises:
        InputError: When it could lose money or lead nowhere; it says how.
    """
    handles = [*given]
    if not handles:
        raise InputError(f"flow {flow.name} has no step")
    # What goes without saying is not written into what the user has: a table is made again.
    failures = {
        handle: _failure_of(flow, handle)
        for handle in given
        if handle.kind in {"post", "void"} and "failed" not in handle.targets
    }
    handles += failures.values()
    handles += list(ends.values())
    for number, handle in enumerate(handles):
        handle.number = number
    names = _names(handles)
    where = f"flow {flow.name}"
    steps = [
        _step(handle, name, where, failures.get(handle))
        for handle, name in zip(handles, names, strict=True)
    ]
    steps = _listening(steps)
    steps += [
        Step(f"cancel {step.name}", "void", {"done": Branch(CANCEL_NEXT)}, of=number)
        for number, step in enumerate(steps)
        if step.kind == "hold"
    ]
    steps.append(Step("cancelled", "end"))
    table = Table(flow.name, flow.version, flow.ledger, flow.input.fields, tuple(steps))
    check_table(table)
    return table


def _failure_of(flow: "Flow", handle: StepHandle) -> StepHandle:
    """Where a definition does not say what to do after a failure, a person sees it."""
    label = handle.given or handle.variable or handle.kind
    question = f"{label} failed: who looked after it?"
    review = StepHandle(flow, "review", question, None, {"question": question})
    review.on("acknowledged").go(flow.end(f"{label} failed"))
    return review


def _names(handles: list[StepHandle]) -> list[str]:
    """By its first argument, the variable's name, or its kind; each once."""
    names: dict[str, None] = {}
    for handle in handles:
        wanted = [handle.given, handle.variable]
        if handle.kind == "end":
            wanted = [handle.given, f"end {handle.given}"]
        numbered = (f"{handle.given or handle.kind} {n}" for n in range(2, len(handles) + 3))
        free = [n for n in (*wanted, handle.kind, *numbered) if n and n not in names]
        names[free[0]] = None
    return list(names)


def _step(handle: StepHandle, name: str, where: str, failure: StepHandle | None) -> Step:
    values = dict(handle.values)
    where = f"{where}: {handle.kind} {name}"
    within = values.pop("within", None)
    if within is not None:
        values["within"] = microseconds_of(within, where)
    of = values.pop("of", None)
    if of is not None:
        values["of"] = of.number
    branches = {}
    targets = handle.targets if failure is None else handle.targets | {"failed": failure}
    for event, target in targets.items():
        if isinstance(target, Again):
            branches[event] = Branch(target.step.number, target.limit, target.otherwise.number)
        else:
            branches[event] = Branch(target.number)
    return Step(name, handle.kind, branches, **values)


def _listening(steps: list[Step]) -> list[Step]:
    """A review that a wait's `late` or a call's `unknown` opens still listens to it."""
    listens: dict[int, list[int]] = {}
    for number, step in enumerate(steps):
        event = {"wait": "late", "call": "unknown"}.get(step.kind, "")
        branch = step.branches.get(event)
        for to in (branch.to, branch.otherwise if branch.limit else -1) if branch else ():
            if to >= 0 and steps[to].kind == "review":
                listens.setdefault(to, []).append(number)
    return [
        msgspec.structs.replace(step, listens=tuple(listens[number])) if number in listens else step
        for number, step in enumerate(steps)
    ]
