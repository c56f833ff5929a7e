"""A definition as data: the transition table that a worker runs, without its author's code."""

import hashlib
from functools import cached_property
from typing import Any, Final

import msgspec

from engine.errors import InputError
from engine.flows.inputs import Expression, InputField, struct_of

STEPS_MAX: Final = 500
SEQ_MAX: Final = 2**15 - 1
DERIVATION: Final = 1
"""Of ids; kept with each definition, so that another one can come."""

CANCEL_NEXT: Final = -1
"""Where the voids of a cancelled flow lead: to the next open hold, or to its end."""

MONEY: Final = frozenset({"hold", "post", "void", "move", "chain", "reverse"})

EVENTS: Final[dict[str, tuple[str, ...]]] = {
    "hold": ("created", "declined"),
    "move": ("created", "declined"),
    "chain": ("created", "declined"),
    "reverse": ("created", "declined"),
    "post": ("done", "failed"),
    "void": ("done", "failed"),
    "wait": (),
    "sleep": ("done",),
    "review": (),
    "call": ("done", "refused", "unknown"),
    "start": ("created", "declined"),
    "end": (),
}
"""By kind of step, the events that it has always; a wait has its signals, a review its answers."""


class Branch(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where an event leads: a step's number; after `limit` times, `otherwise`."""

    to: int
    limit: int = 0
    otherwise: int = 0


class Leg(msgspec.Struct, frozen=True):
    """One transfer of a step, its values being expressions."""

    debit: Expression
    credit: Expression
    amount: Expression
    code: int


class Step(msgspec.Struct, frozen=True, omit_defaults=True):
    """A row of the table. What does not concern its kind is left out."""

    name: str
    kind: str
    branches: dict[str, Branch] = {}
    legs: tuple[Leg, ...] = ()
    of: int = -1
    """The hold that is posted or voided, or the step that is reversed."""
    amount: Expression | None = None
    """What of a hold is posted; all where None."""
    code: int = 0
    timeout_seconds: int = 0
    within: int = 0
    """Microseconds; zero for as long as it takes."""
    signal: str = ""
    question: str = ""
    when: Expression | None = None
    listens: tuple[int, ...] = ()
    """The waits and calls whose evidence ends this review."""
    function: str = ""
    attempts_max: int = 1
    idempotent: bool = False
    nothing_sent: bool = False
    child: str = ""
    child_input: dict[str, Expression] = {}
    wait_end: bool = False

    @property
    def events(self) -> tuple[str, ...]:
        """What can come of it."""
        if self.kind == "start" and self.wait_end:
            named = tuple(n for n in self.branches if n not in {"declined", "ended"})
            return (*named, "ended", "declined")
        if self.kind in {"wait", "review"}:
            named = tuple(name for name in self.branches if name != "late")
            return (*named, "late") if self.within else named
        return EVENTS[self.kind]


class Table(msgspec.Struct, frozen=True, omit_defaults=True, dict=True):
    """A definition."""

    name: str
    version: int
    ledger: int
    inputs: tuple[InputField, ...]
    steps: tuple[Step, ...]
    derivation: int = DERIVATION

    @cached_property
    def hash(self) -> bytes:
        """Of everything in it: another hash is another definition."""
        return hashlib.sha256(self.source).digest()

    @cached_property
    def source(self) -> bytes:
        """As JSON, in one way only."""
        return msgspec.json.encode(self, order="deterministic")

    @cached_property
    def struct(self) -> type[msgspec.Struct]:
        """What inputs are read as."""
        return struct_of(self.inputs)

    @cached_property
    def numbers(self) -> dict[str, int]:
        """Steps by name."""
        return {step.name: number for number, step in enumerate(self.steps)}

    @cached_property
    def cancelled_end(self) -> int:
        """The end of cancelled flows."""
        return len(self.steps) - 1

    @cached_property
    def cancels(self) -> dict[int, int]:
        """By hold, the step that voids it when the flow is cancelled."""
        return {
            step.of: number
            for number, step in enumerate(self.steps)
            if "done" in step.branches and step.branches["done"].to == CANCEL_NEXT
        }

    @cached_property
    def signals(self) -> dict[str, frozenset[str]]:
        """By name of signal, the events that some wait for it knows."""
        found: dict[str, frozenset[str]] = {}
        for step in self.steps:
            if step.kind == "wait":
                events = frozenset(step.branches) - {"late"}
                found[step.signal] = found.get(step.signal, frozenset()) | events
        return found

    @cached_property
    def account_fields(self) -> tuple[InputField, ...]:
        """Those of its input that name accounts."""
        return tuple(field for field in self.inputs if field.type == "account")

    @cached_property
    def conditions(self) -> tuple[Expression, ...]:
        """All conditions of its reviews, each once."""
        found = {repr(step.when): step.when for step in self.steps if step.when is not None}
        return tuple(found.values())

    @cached_property
    def functions(self) -> frozenset[str]:
        """The functions that its calls need."""
        return frozenset(step.function for step in self.steps if step.kind == "call")

    @cached_property
    def account_names(self) -> tuple[str, ...]:
        """The accounts that it names itself."""
        found: dict[str, None] = {}
        for step in self.steps:
            for leg in step.legs:
                for written in (leg.debit, leg.credit):
                    if written[0] == "account":
                        found[written[1]] = None
        return tuple(found)


def read_table(source: bytes | str | dict[str, Any]) -> Table:
    """A table from its source.

    Raises:
        InputError: When it is none.
    """
    try:
        if isinstance(source, dict):
            return msgspec.convert(source, Table)
        return msgspec.json.decode(source, type=Table)
    except msgspec.MsgspecError as error:
        raise InputError(f"this is no definition of a flow: {error}") from None
