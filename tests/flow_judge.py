"""An independent reading of journals and money: what must hold, whatever happened.

It knows the table and the rows, and nothing of how the rules come to them.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from engine.flows.ids import call_key, nobody_id
from engine.flows.journal import OVER, Row
from engine.flows.money import VOID_DONE, Spent, unpack
from engine.flows.table import MONEY, Step, Table
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
    faults += _judge_holds(table, rows)
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
        if row.detail.get("resolved"):  # its id is another's, and a person has said so
            continue
        found = [spent.get(leg.id) for leg in legs]
        created = [f for f in found if f is not None and _is_ours(f, row.flow)]
        ids.update(leg.id for leg in legs if row.event in {"created", "done"})
        good = row.event in {"created", "done"}
        passed = step.kind == "void" and row.detail.get("reason")
        if good and len(created) < len(legs) and not passed:
            faults.append(f"{name} is {row.event}, and the ledger does not have it")
        if not good and created:
            faults.append(f"{name} is {row.event}, and the ledger has created it")
        if not good and not any(f is not None for f in found):
            faults.append(f"{name} is {row.event}, and its id is free: it may be created later")
        if row.event == "failed" and row.detail.get("reason") in _NOT_FAILED[step.kind]:
            faults.append(f"{name} is failed, and its hold is over: {row.detail}")
        if step.kind == "hold" and good:
            open_holds[row.step] = legs[0].id.hex()
        if step.kind in {"post", "void"} and good:
            open_holds.pop(step.of, None)
    return faults + [f"a transfer is done {c} times" for c in ids.values() if c > 1]


_NOT_FAILED = {"void": VOID_DONE, "post": frozenset[str]()}


def _is_ours(found: Spent, flow: bytes) -> bool:
    created = found.outcome is Outcome.created and found.transfer is not None
    return created and found.transfer.user_data_128 == flow  # type: ignore[union-attr]


def judge_reasons(
    table: Table,
    journals: Mapping[bytes, Sequence[Row]],
    spent: Mapping[bytes, Spent],
    told: Mapping[bytes, set[str]],
) -> list[str]:
    """What is declined was asked as it stands in the journal, and the ledger has said why.

    `told` is what the ledger answered, by the id of a transfer.
    """
    faults = []
    for flow, rows in journals.items():
        request = b""
        for row in rows:
            step = table.steps[row.step]
            request = row.request if row.state == "asked" and step.kind in MONEY else request
            reason = row.detail.get("reason")
            if row.state != "done" or step.kind not in MONEY or reason is None:
                continue
            if row.detail.get("resolved"):
                continue
            where = f"{flow.hex()[:8]}: seq {row.seq}: {step.kind} is {row.event} for {reason}"
            pieces = {leg.id: request[128 * n :][:128] for n, leg in enumerate(unpack(request))}
            kept = [(i, s.request) for i in pieces if (s := spent.get(i)) and s.request]
            if kept and not any(asked == pieces[i] or _is_burn(asked) for i, asked in kept):
                faults.append(f"{where}, which another asked")
            said = set().union(*(told.get(i, set()) for i in pieces))
            ledger = {s.outcome.name for i in pieces if (s := spent.get(i))}
            if reason not in said | ledger or reason == Outcome.created.name:
                faults.append(f"{where}, and the ledger said {sorted(said | ledger)}")
    return faults


def _is_burn(request: bytes) -> bool:
    [asked] = unpack(request)
    return asked.debit_account_id == nobody_id(asked.id)


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


def _judge_holds(table: Table, rows: Sequence[Row]) -> list[str]:
    """No hold can lapse while something is unknown, and none is left to whoever stops the flow,
    unless what was to end it has failed."""
    faults = []
    open_holds: set[int] = set()
    failed = False
    for row in rows:
        step = table.steps[row.step]
        if step.kind == "hold" and row.event == "created":
            open_holds.add(row.step)
        failed = failed or row.event == "failed"
        if step.kind in {"post", "void"} and row.event == "done":
            open_holds.discard(step.of)
        outside = step.kind in {"wait", "call"} and not step.nothing_sent
        if outside and row.state in {"asked", "waiting"}:
            lapsing = [n for n in open_holds if table.steps[n].timeout_seconds]
            faults += [f"seq {row.seq}: a hold may lapse while {step.name} is out"] * len(lapsing)
        if row.event == "open_hold" and not failed:
            faults.append(f"seq {row.seq}: the definition leaves a hold open")
    return faults


def judge_calls(
    calls: Sequence[tuple[object, str]], table: Table, journals: Mapping[bytes, Sequence[Row]]
) -> list[str]:
    """No attempt is made twice, what is not idempotent is called again only where nothing
    happened, and what is known of a call is so."""
    faults = []
    attempts = Counter((c.flow, c.seq) for c, _ in calls)  # type: ignore[attr-defined]
    faults += ["an attempt of a call was made twice" for n in attempts.values() if n > 1]
    steps: dict[bytes, Step] = {}
    ends: list[tuple[bytes, Row]] = []
    for flow, rows in journals.items():
        for row, visit in _visits(rows):
            key = call_key(flow, row.step, visit)
            steps[key] = table.steps[row.step]
            if row.state == "done" and row.event in {"done", "refused"}:
                ends.append((key, row))
    truths: dict[bytes, list[str]] = {}
    for call, truth in calls:
        key = call.key  # type: ignore[attr-defined]
        step, before = steps.get(key), truths.setdefault(key, [])
        if step is None or step.kind != "call":
            faults.append("a call was made, and no row asks for it")
        elif not step.idempotent and any(t != "again" for t in before):
            faults.append(f"{step.name} was called again though it may have been done")
        before.append(truth)
    for key, row in ends:
        if steps[key].kind == "call" and not row.detail.get("resolved"):
            came = truths.get(key, [])
            if (row.event == "done") != ("done" in came):
                faults.append(f"seq {row.seq}: a call is {row.event}, and came to {came}")
    return faults


def _visits(rows: Sequence[Row]) -> Iterator[tuple[Row, int]]:
    """Rows, and how often their step was entered by then."""
    visits: Counter[int] = Counter()
    inside = False
    for row in rows:
        if row.state == "stopped" or row.event == "start_at":
            continue
        if row.state not in OVER and not inside:
            visits[row.step] += 1
        inside = row.state not in OVER
        yield row, visits[row.step]
