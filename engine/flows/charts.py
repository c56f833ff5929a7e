"""A definition as a person reads it: text, and a diagram in mermaid."""

from engine.flows.inputs import Expression
from engine.flows.table import CANCEL_NEXT, Branch, Step, Table


def as_text(table: Table) -> str:
    """One line a step, and one a branch."""
    lines = [f"flow {table.name} version {table.version}, ledger {table.ledger}"]
    for field in table.inputs:
        default = "" if field.required else f" = {field.default!r}"
        lines.append(f"  input {field.name}: {field.type}{default}")
    for number, step in _shown(table):
        lines.append(f"{number:>3} {step.kind} {step.name}{_details(table, step)}")
        lines += [
            f"      {event} -> {_target(table, branch)}" for event, branch in step.branches.items()
        ]
        lines += [f"      evidence of {table.steps[n].name} ends it" for n in step.listens]
    return "\n".join(lines) + "\n"


def as_mermaid(table: Table) -> str:
    """A flow chart."""
    lines = ["flowchart TD"]
    for number, step in _shown(table):
        text = f"{step.kind} {step.name}".replace('"', "'")
        shape = {"end": ("([", "])"), "review": ("{{", "}}")}.get(step.kind, ("[", "]"))
        lines.append(f'    s{number}{shape[0]}"{text}"{shape[1]}')
    for number, step in _shown(table):
        for event, branch in step.branches.items():
            word = event.replace('"', "'")
            if branch.limit:
                lines.append(f'    s{number} -->|"{word}, at most {branch.limit}"| s{branch.to}')
                lines.append(f'    s{number} -->|"{word}, then"| s{branch.otherwise}')
            else:
                lines.append(f'    s{number} -->|"{word}"| s{branch.to}')
        lines += [f'    s{listened} -.->|"evidence"| s{number}' for listened in step.listens]
    return "\n".join(lines) + "\n"


def _shown(table: Table) -> list[tuple[int, Step]]:
    """All but what a cancelled flow passes, which is the same in every definition."""
    hidden = {*table.cancels.values(), table.cancelled_end}
    return [(number, step) for number, step in enumerate(table.steps) if number not in hidden]


def _target(table: Table, branch: Branch) -> str:
    if branch.to == CANCEL_NEXT:
        return "cancelled"
    name = table.steps[branch.to].name
    if branch.limit:
        return f"{name}, at most {branch.limit} times, then {table.steps[branch.otherwise].name}"
    return name


def _details(table: Table, step: Step) -> str:
    words = [
        f"{expression_text(leg.amount)} from {expression_text(leg.debit)} to "
        f"{expression_text(leg.credit)}, code {leg.code}"
        for leg in step.legs
    ]
    if step.of >= 0:
        words.append(f"of {table.steps[step.of].name}")
    if step.amount is not None:
        words.append(f"{expression_text(step.amount)} of it")
    if step.timeout_seconds:
        words.append(f"for {step.timeout_seconds} s")
    if step.signal and step.signal != step.name:
        words.append(f"for signal {step.signal}")
    if step.question and step.question != step.name:
        words.append(f"asks {step.question!r}")
    if step.when is not None:
        words.append(f"when {expression_text(step.when)}")
    if step.within:
        words.append(f"within {step.within / 1_000_000:g} s")
    if step.function and step.function != step.name:
        words.append(f"of {step.function}")
    if step.child:
        words.append(f"of {step.child}" + (", waiting for its end" if step.wait_end else ""))
    if step.nothing_sent:
        words.append("nothing sent")
    return ": " + "; ".join(words) if words else ""


def expression_text(expression: Expression) -> str:
    """An expression as it was written, nearly."""
    match expression:
        case ["field" | "account", name]:
            return str(name)
        case ["value", value]:
            return repr(value)
        case ["not", inner]:
            return f"not {expression_text(inner)}"
        case [sign, left, right]:
            return f"({expression_text(left)} {sign} {expression_text(right)})"
    return repr(expression)
