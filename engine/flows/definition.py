"""What a user writes: Python that makes a table, and is not needed any more afterwards."""

import dis
import sys
from collections.abc import Mapping
from typing import Any, Final

from engine.errors import InputError
from engine.flows.assembly import assemble
from engine.flows.handles import Again, StepHandle, check_number, check_text
from engine.flows.inputs import (
    Condition,
    Expression,
    Field,
    Input,
    account_expression,
    amount_expression,
    microseconds_of,
)
from engine.flows.table import Leg, Table

NAME_CHARACTERS_MAX: Final = 200
QUESTION_CHARACTERS_MAX: Final = 1000
ATTEMPTS_MAX: Final = 100


class Flow:
    """A definition in the making. The step that is defined first is the first.

    Args:
        name: Of the definition.
        version: A number that rises; what a version says never changes.
        input: What it is started with.
        ledger: Of all its accounts.
    """

    def __init__(self, name: str, *, version: int, input: type[Input], ledger: int) -> None:  # noqa: A002
        check_text(name, NAME_CHARACTERS_MAX, "name of a flow")
        check_number(version, 2**31 - 1, f"flow {name}: version")
        check_number(ledger, 2**32 - 1, f"flow {name}: ledger")
        if not _is_input(input):
            raise InputError(f"flow {name}: Expected a class of engine.flows.Input as input")
        self.name = name
        self.version = version
        self.input = input
        self.ledger = ledger
        self.functions: dict[str, Any] = {}
        self._steps: list[StepHandle] = []
        self._ends: dict[str, StepHandle] = {}

    # Steps that move money.

    def hold(
        self,
        name: str | None = None,
        *,
        debit: object,
        credit: object,
        amount: object,
        code: int,
        timeout: object = None,
    ) -> StepHandle:
        """Reserve an amount, until it is posted or voided."""
        seconds = 0
        if timeout is not None:
            seconds = max(1, microseconds_of(timeout, "timeout of a hold") // 1_000_000)
        leg = self._leg({"debit": debit, "credit": credit, "amount": amount, "code": code}, "hold")
        return self._new("hold", name, legs=(leg,), timeout_seconds=seconds)

    def post(
        self, hold: StepHandle, *, amount: object = None, name: str | None = None
    ) -> StepHandle:
        """Move what is held, or a part of it; the rest is released."""
        part = None if amount is None else amount_expression(amount, f"flow {self.name}: post")
        return self._new("post", name, of=self._of("post", hold, {"hold"}), amount=part)

    def void(self, hold: StepHandle, *, name: str | None = None) -> StepHandle:
        """Release what is held."""
        return self._new("void", name, of=self._of("void", hold, {"hold"}))

    def move(
        self, name: str | None = None, *, debit: object, credit: object, amount: object, code: int
    ) -> StepHandle:
        """Move an amount at once."""
        leg = self._leg({"debit": debit, "credit": credit, "amount": amount, "code": code}, "move")
        return self._new("move", name, legs=(leg,))

    def chain(self, *legs: Mapping[str, Any], name: str | None = None) -> StepHandle:
        """Several moves, all or none; a leg is dict(debit=, credit=, amount=, code=)."""
        if not 2 <= len(legs) <= 100:
            raise InputError(f"flow {self.name}: a chain has 2 to 100 legs, got {len(legs)}")
        return self._new("chain", name, legs=tuple(self._leg(leg, "chain") for leg in legs))

    def reverse(
        self, step: StepHandle, *, code: int | None = None, name: str | None = None
    ) -> StepHandle:
        """Move back what a step has moved, once."""
        of = self._of("reverse", step, {"move", "chain", "post"})
        if code is not None:
            self._code(code, "reverse")
        return self._new("reverse", name, of=of, code=code or 0)

    # Steps that wait.

    def wait(
        self,
        signal: str,
        *,
        within: object = None,
        nothing_sent: bool = False,
        name: str | None = None,
    ) -> StepHandle:
        """Wait for the first of several events of a signal, or until it is late."""
        check_text(signal, NAME_CHARACTERS_MAX, f"flow {self.name}: signal's name")
        if signal.startswith(":"):
            raise InputError(f"flow {self.name}: signal's name {signal!r}: `:` is the engine's own")
        values = {"signal": signal, "within": within, "nothing_sent": nothing_sent}
        return self._new("wait", name, default=signal, **values)

    def sleep(self, duration: object, *, name: str | None = None) -> StepHandle:
        """Wait for a time."""
        return self._new("sleep", name, within=duration)

    def review(
        self,
        question: str,
        *,
        when: object = None,
        within: object = None,
        name: str | None = None,
    ) -> StepHandle:
        """Ask a person who did not start the flow; approved where `when` is false."""
        check_text(question, QUESTION_CHARACTERS_MAX, f"flow {self.name}: question")
        expression: Expression | None = None
        if isinstance(when, Condition) or (isinstance(when, Field) and when.word == "boolean"):
            expression = when.expression
        elif when is not None:
            raise InputError(
                f"flow {self.name}: review {question!r}: Expected a condition over the input in "
                f"when=, as Payout.amount > 100, got {when!r}"
            )
        values = {"question": question, "when": expression, "within": within}
        return self._new("review", name, default=question, **values)

    def call(
        self,
        function: Any,
        *,
        within: object = "30s",
        attempts: int = 1,
        idempotent: bool = False,
        nothing_sent: bool = False,
        name: str | None = None,
    ) -> StepHandle:
        """Call an own async function, which takes a list of items."""
        word = function if isinstance(function, str) else getattr(function, "__name__", "")
        if not word or word == "<lambda>":
            raise InputError(f"flow {self.name}: Expected an async function with a name in call()")
        check_number(attempts, ATTEMPTS_MAX, f"flow {self.name}: call {word}: attempts")
        if callable(function):
            if self.functions.get(word, function) is not function:
                raise InputError(f"flow {self.name}: two functions are called {word}; rename one")
            self.functions[word] = function
        values = {
            "function": word,
            "within": within,
            "attempts_max": attempts,
            "idempotent": idempotent,
            "nothing_sent": nothing_sent,
        }
        return self._new("call", name, default=word, **values)

    def start(
        self,
        definition: "Flow | str",
        *,
        input: Mapping[str, object],  # noqa: A002 - the word of the field
        wait_end: bool = False,
        name: str | None = None,
    ) -> StepHandle:
        """Start another flow, and go on when it is there, or when it has ended."""
        child = definition.name if isinstance(definition, Flow) else definition
        written: dict[str, Expression] = {}
        for key, value in input.items():
            is_expression = isinstance(value, Field | Condition)
            written[key] = value.expression if is_expression else ["value", value]  # type: ignore[attr-defined]
        return self._new("start", name, child=child, child_input=written, wait_end=wait_end)

    def end(self, name: str) -> StepHandle:
        """The end of that name."""
        check_text(name, NAME_CHARACTERS_MAX, f"flow {self.name}: end's name")
        if name not in self._ends:
            self._ends[name] = StepHandle(self, "end", name, None, {})
        return self._ends[name]

    def again(self, step: StepHandle, *, limit: int, otherwise: StepHandle) -> Again:
        """A step to go back to, as an answer of a review."""
        return Again(step, limit, otherwise)

    # How it comes together.

    def table(self) -> Table:
        """The table.

        Raises:
            InputError: When the definition could lose money or lead nowhere; it says how.
        """
        return assemble(self, self._steps, self._ends)

    def add(self, kind: str, name: str | None, **values: Any) -> StepHandle:
        """Add a step."""
        handle = StepHandle(self, kind, name, None, values)
        self._steps.append(handle)
        return handle

    def _new(
        self, kind: str, name: str | None, *, default: str | None = None, **values: Any
    ) -> StepHandle:
        handle = self.add(kind, name or default, **values)
        handle.variable = _variable_of(3)
        return handle

    def _of(self, kind: str, step: object, kinds: set[str]) -> StepHandle:
        if not isinstance(step, StepHandle) or step.kind not in kinds:
            wanted = " or ".join(sorted(kinds))
            raise InputError(f"flow {self.name}: {kind}() takes a {wanted}, got {step!r}")
        step.check_flow(self)
        return step

    def _leg(self, written: Mapping[str, Any], kind: str) -> Leg:
        where = f"flow {self.name}: {kind}"
        if set(written) != {"debit", "credit", "amount", "code"}:
            raise InputError(f"{where}: a leg has debit, credit, amount and code, got {written!r}")
        self._code(written["code"], kind)
        return Leg(
            account_expression(written["debit"], f"{where}: debit"),
            account_expression(written["credit"], f"{where}: credit"),
            amount_expression(written["amount"], f"{where}: amount"),
            written["code"],
        )

    def _code(self, code: object, kind: str) -> None:
        check_number(code, 2**16 - 1, f"flow {self.name}: {kind}: code")


def _is_input(found: object) -> bool:
    return isinstance(found, type) and issubclass(found, Input)


def _variable_of(depth: int) -> str | None:
    """The variable that the caller is about to assign; None where there is none."""
    frame = sys._getframe(depth)  # noqa: SLF001 - there is no other way
    for instruction in dis.get_instructions(frame.f_code):
        if instruction.offset <= frame.f_lasti or instruction.opname == "CACHE":
            continue
        if not instruction.opname.startswith("STORE_"):
            return None
        named = instruction.argval
        return str(named[0] if isinstance(named, tuple) else named)
    return None
