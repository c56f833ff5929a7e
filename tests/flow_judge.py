"""An independent reading of journals and money: what must hold, whatever happened.

It knows the table and the rows, and nothing of how the rules come to them.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

from engine.flows.journal import Row
from engine.flows.money import Spent, unpack
from engine.flows.table import MONEY, Table
from engine.ledger.nouns import Transfer
from engine.ledger.outcomes import Outcome

PERSON = "by a person"


def judge(
    table: Table,
    journals: Mapping[bytes, Sequence[Row]],
    spent: Mapping[bytes, Spent],
    open_holds: Mapping[bytes, Transfer],
) -> list[str]:
    """All that is wrong; empty where nothing is."""
    faults: list[str] = []
    for flow, rows in journals.items():
        faults += [f"{flow.hex()[:8]}: {fault}" for fault in _judge_flow(table, rows, spent)]
        if rows and rows[-1].state == "ended":
            left = [h for h in open_holds.values() if h.user_data_128 == flow]
            faults += [f"{flow.hex()[:8]}: ended with an open hold" for _ in left]
    return faults


def _judge_flow(table: Table, rows: Sequence[Row], spent: Mapping[bytes, Spent]) -> list[str]:
    faults = []
    if [row.seq for row in rows] != list(range(1, len(rows) + 1)):
        faults.append("its sequence has gaps or doubles")
    if not rows or rows[-1].state != "ended":
        faults.append(f"it did not end: {rows[-1] if rows else 'no row'}")
    if sum(row.state == "ended" for row in rows) > 1:
        faults.append("it ended twice")
    twice = [n for n, c in Counter(row.signal for row in rows if row.signal).items() if c > 1]
    faults += [f"signal {number} was consumed twice" for number in twice]
    faults += _judge_money(table, rows, spent)
    faults += _judge_path(table, rows)
    faults += _judge_unknown(table, rows)
    return faults


def _judge_money(table: Table, rows: Sequence[Row], spent: Mapping[bytes, Spent]) -> list[str]:
    faults = []
    asked: dict[int, bytes] = {}
    open_holds: dict[int, str] = {}
    ids: Counter[bytes] = Counter()
    requests: dict[bytes, bytes] = {}
    for row in rows:
        step = table.steps[row.step]
        if step.kind not in MONEY:
            continue
        name = f"{step.kind} {step.name}"
        if row.state == "asked":
            asked[row.step] = row.request
            for place, leg in enumerate(unpack(row.request)):
                piece = row.request[128 * place : 128 * place + 128]
                if requests.setdefault(leg.id, piece) != piece:
                    faults.append(f"{name} asked for one id in two ways")
                if step.kind in {"post", "void"} and step.of not in open_holds:
                    faults.append(f"{name} was asked before its hold was there")
        if row.state != "done" or row.event in {"cancel", "resumed"} or row.step not in asked:
            continue
        legs = unpack(asked.pop(row.step))
        found = [spent.get(leg.id) for leg in legs]
        created = [f for f in found if f is not None and f.outcome is Outcome.created]
        ids.update(leg.id for leg in legs if row.event in {"created", "done"})
        good = row.event in {"created", "done"}
        passed = step.kind == "void" and row.detail.get("reason")
        if good and len(created) < len(legs) and not passed:
            faults.append(f"{name} is {row.event}, and the ledger does not have it")
        if not good and created:
            faults.append(f"{name} is {row.event}, and the ledger has created it")
        if not good and not any(f is not None for f in found):
            faults.append(f"{name} is {row.event}, and its id is free: it may be created later")
        if step.kind == "hold" and good:
            open_holds[row.step] = legs[0].id.hex()
        if step.kind in {"post", "void"} and good:
            open_holds.pop(step.of, None)
    return faults + [f"a transfer is done {c} times" for c in ids.values() if c > 1]


def _judge_path(table: Table, rows: Sequence[Row]) -> list[str]:
    """Each step follows from the event before it by a branch of the table."""
    faults = []
    follows: set[int] | None = {0}
    taken: Counter[tuple[int, str]] = Counter()
    cancelling = False
    for row in rows:
        step = table.steps[row.step]
        cancelling = cancelling or row.event == "cancel"
        if follows is not None and row.state != "stopped" and not cancelling:
            allowed = follows | {n for f in follows for n in table.steps[f].listens}
            if row.step not in allowed and row.event != "resumed":
                faults.append(f"seq {row.seq}: {step.name} does not follow")
        if row.state in {"done", "unknown"} and row.event in step.branches:
            taken[row.step, row.event] += 1
            branch = step.branches[row.event]
            spent = branch.limit and taken[row.step, row.event] > branch.limit
            follows = {branch.otherwise if spent else branch.to}
        elif row.state in {"done", "ended"} and row.event == "evidence":
            follows = set(step.listens)
        elif row.state not in {"stopped", "done"}:
            follows = {row.step}
    last = rows[-1] if rows else None
    if last is not None and last.state == "ended" and last.event != table.steps[last.step].name:
        faults.append("the end has another name")
    return faults


def _judge_unknown(table: Table, rows: Sequence[Row]) -> list[str]:
    """After what is unknown, nothing is voided, reversed or ended without evidence or a person."""
    faults = []
    unheard = False
    for row in rows:
        step = table.steps[row.step]
        if step.kind in {"wait", "call"} and not step.nothing_sent:
            if row.state in {"asked", "waiting"}:
                unheard = True
            elif row.state == "done" and row.event not in {"late", "unknown", "cancel"}:
                unheard = False
        if step.kind == "review" and row.state == "done" and row.reference:
            unheard = False
        if step.kind in {"wait", "call"} and row.state == "done" and row.event != "late":
            unheard = False
        enters = row.state == "asked" and step.kind in {"void", "reverse"}
        if unheard and (enters or row.state == "ended"):
            faults.append(f"seq {row.seq}: {step.kind} {step.name} though something is unknown")
    return faults


def judge_calls(calls: Sequence[tuple[object, str]], table: Table) -> list[str]:
    """No attempt is made twice, and what is not idempotent only again where nothing happened."""
    faults = []
    attempts = Counter((c.flow, c.seq) for c, _ in calls)  # type: ignore[attr-defined]
    faults += ["an attempt of a call was made twice" for n in attempts.values() if n > 1]
    by_key: dict[bytes, list[str]] = {}
    idempotent = {s.function for s in table.steps if s.kind == "call" and s.idempotent}
    for call, truth in calls:
        before = by_key.setdefault(call.key, [])  # type: ignore[attr-defined]
        function = call.function  # type: ignore[attr-defined]
        if function not in idempotent and any(t != "again" for t in before):
            faults.append(f"{function} was called again though it may have been done")
        before.append(truth)
    return faults
