"""Steps and events in a user's hands, while a definition is being made."""

from typing import TYPE_CHECKING, Any, Final

from engine.errors import InputError
from engine.flows.table import EVENTS

if TYPE_CHECKING:
    from engine.flows.definition import Flow

_ALIASES: Final = {
    ("hold", "done"): "created",
    ("move", "done"): "created",
    ("chain", "done"): "created",
    ("reverse", "done"): "created",
    ("post", "created"): "done",
    ("void", "created"): "done",
}
_LIMIT_MAX: Final = 10_000
NAME_CHARACTERS_MAX: Final = 200


class Again:
    """A step to be gone back to, at most `limit` times in the life of a flow."""

    def __init__(self, step: "StepHandle", limit: int, otherwise: "StepHandle") -> None:
        check_number(limit, _LIMIT_MAX, "limit")
        if not _is_step(otherwise):
            raise InputError("a limit needs otherwise=, the step to go to when it is reached")
        self.step = step
        self.limit = limit
        self.otherwise = otherwise


class EventHandle:
    """An event of a step, which leads somewhere."""

    def __init__(self, step: "StepHandle", name: str) -> None:
        self._step = step
        self._name = name

    def go(
        self,
        to: "StepHandle | Again",
        *,
        limit: int | None = None,
        otherwise: "StepHandle | None" = None,
    ) -> None:
        """Go on with a step. One that leads back needs `limit` and `otherwise`."""
        if limit is not None or otherwise is not None:
            if not isinstance(to, StepHandle):
                raise InputError(f"{self._label}: two limits are given")
            to = Again(to, limit or 0, otherwise)  # type: ignore[arg-type]
        if not isinstance(to, StepHandle | Again):
            raise InputError(f"{self._label}: Expected a step, got {to!r}")
        if self._name in self._step.targets:
            raise InputError(f"{self._label} has a branch already; an event leads to one step")
        (to.step if isinstance(to, Again) else to).check_flow(self._step.flow)
        self._step.targets[self._name] = to

    def end(self, name: str) -> None:
        """End the flow, under this name."""
        self.go(self._step.flow.end(name))

    def review(
        self,
        question: str,
        *,
        within: object = None,
        name: str | None = None,
        **answers: "StepHandle | Again",
    ) -> "StepHandle":
        """Ask a person, whose answer leads on."""
        review = self._step.flow.add("review", name or question, question=question, within=within)
        if not answers:
            raise InputError(f"{self._label}.review: give its answers, each with a step")
        for answer, to in answers.items():
            review.on(answer).go(to)
        self.go(review)
        return review

    @property
    def _label(self) -> str:
        return f"{self._step.label}.{self._name}"


class StepHandle:
    """A step that is being defined; its events are its attributes."""

    def __init__(
        self, flow: "Flow", kind: str, name: str | None, variable: str | None, values: Any
    ) -> None:
        self.flow = flow
        self.kind = kind
        self.given = name
        self.variable = variable
        self.values = values
        self.targets: dict[str, StepHandle | Again] = {}
        self.number = -1

    @property
    def label(self) -> str:
        """How messages call it."""
        return f"{self.kind} {self.given or self.variable or ''}".strip()

    def check_flow(self, flow: "Flow") -> None:
        """Refuse a step of another flow."""
        if self.flow is not flow:
            raise InputError(f"{self.label} is a step of flow {self.flow.name}, not {flow.name}")

    def __getattr__(self, name: str) -> EventHandle:
        if name.startswith("_"):
            raise AttributeError(name)
        name = _ALIASES.get((self.kind, name), name)
        events = EVENTS[self.kind]
        if self.kind == "review":
            events = ("approved", "refused", "late")
        elif self.kind == "wait":
            events = ("late",)
        elif self.kind == "start" and self.values.get("wait_end"):
            events = ("ended", "declined")
        if name not in events:
            known = ", ".join(events) or "none"
            hint = "; a signal's event is .on(name)" if self.kind == "wait" else ""
            raise InputError(f"{self.label} has no event {name}, only {known}{hint}")
        return EventHandle(self, name)

    def on(self, name: str) -> EventHandle:
        """An event by its name: of a signal, an answer, the end of a child."""
        allowed = self.kind in {"wait", "review"} or self.values.get("wait_end")
        if not allowed:
            raise InputError(f"{self.label} has no .on({name!r}); its events are attributes")
        check_text(name, NAME_CHARACTERS_MAX, f"{self.label}: event")
        if name == "late":
            raise InputError(f"{self.label}: `late` is the time that is over: write .late")
        return EventHandle(self, name)


def check_text(text: object, characters_max: int, what: str) -> None:
    """Refuse what is no text of that length."""
    if not isinstance(text, str) or not 0 < len(text) <= characters_max:
        raise InputError(f"{what}: Expected 1 to {characters_max} characters, got {text!r}")


def check_number(number: object, number_max: int, what: str) -> None:
    """Refuse what is no number from 1 to that."""
    is_number = isinstance(number, int) and not isinstance(number, bool)
    if not is_number or not 1 <= number <= number_max:  # type: ignore[operator]
        raise InputError(f"{what}: Expected a number from 1 to {number_max}, got {number!r}")


def _is_step(step: object) -> bool:
    return isinstance(step, StepHandle)
