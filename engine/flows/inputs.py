"""What a flow is started with, and conditions over it that a table can hold.

The class that a user writes is read once. Its fields become names of columns, so that
`Payout.amount > 100` is no truth but an expression, kept with the definition and asked of every
flow's input when it is due.
"""

import re
import uuid
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, TypeAlias, get_type_hints

import msgspec
from msgspec import Meta

from engine.errors import InputError
from engine.ledger.nouns import COUNTER_MAX

TEXT_CHARACTERS_MAX: Final = 10_000
NAME_CHARACTERS_MAX: Final = 1000
INPUT_BYTES_MAX: Final = 64 * 1024

Expression: TypeAlias = list[Any]
"""`["field", name]`, `["value", v]`, `["account", name]`, `[">", a, b]`, `["and", a, b]`, ..."""


class Account(str):
    """An account by its id or its name: exactly one of that name and the flow's ledger."""

    __slots__ = ()


class Amount(int):
    """An amount in the minor unit of the flow's ledger."""


_TYPES: Final[dict[type, tuple[str, Any]]] = {
    Account: ("account", Annotated[str, Meta(min_length=1, max_length=NAME_CHARACTERS_MAX)]),
    Amount: ("amount", Annotated[int, Meta(ge=0, le=COUNTER_MAX)]),
    str: ("text", Annotated[str, Meta(max_length=TEXT_CHARACTERS_MAX)]),
    int: ("integer", Annotated[int, Meta(ge=-COUNTER_MAX, le=COUNTER_MAX)]),
    bool: ("boolean", bool),
    uuid.UUID: ("uuid", uuid.UUID),
}
_BY_WORD: Final[dict[str, Any]] = dict(_TYPES.values())


class InputField(msgspec.Struct, frozen=True, omit_defaults=True):
    """A field as the definition keeps it."""

    name: str
    type: str
    required: bool = True
    default: Any = None


class Condition:
    """Something that is true or false of a flow's input. Joined by `&`, `|` and `~`."""

    def __init__(self, expression: Expression) -> None:
        self.expression = expression

    def __and__(self, other: "Condition") -> "Condition":
        return Condition(["and", self.expression, _expression_of(other)])

    def __or__(self, other: "Condition") -> "Condition":
        return Condition(["or", self.expression, _expression_of(other)])

    def __invert__(self) -> "Condition":
        return Condition(["not", self.expression])

    def __bool__(self) -> bool:
        raise InputError("a condition is not known yet: join conditions by & | ~, not and/or/not")


class Field:
    """A field of the input, as the class's attribute."""

    def __init__(self, name: str, word: str) -> None:
        self.name = name
        self.word = word

    @property
    def expression(self) -> Expression:
        """As the definition keeps it."""
        return ["field", self.name]

    def _compared(self, sign: str, other: object) -> Condition:
        return Condition([sign, self.expression, _expression_of(other)])

    def __gt__(self, other: object) -> Condition:
        return self._compared(">", other)

    def __ge__(self, other: object) -> Condition:
        return self._compared(">=", other)

    def __lt__(self, other: object) -> Condition:
        return self._compared("<", other)

    def __le__(self, other: object) -> Condition:
        return self._compared("<=", other)

    def __eq__(self, other: object) -> Condition:  # type: ignore[override]
        return self._compared("==", other)

    def __ne__(self, other: object) -> Condition:  # type: ignore[override]
        return self._compared("!=", other)

    __hash__ = None  # type: ignore[assignment]

    def __bool__(self) -> bool:
        raise InputError(f"the field {self.name} is not known yet: compare it, as == True")


class Input:
    """Base of the class that says what a flow is started with. Fields as in a dataclass."""

    fields: tuple[InputField, ...] = ()

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        found = []
        for name, hint in get_type_hints(cls).items():
            if name == "fields":
                continue
            if name == "id":
                raise InputError(f"{cls.__name__}: `id` is the flow's own id; name it otherwise")
            if hint not in _TYPES:
                raise InputError(
                    f"{cls.__name__}.{name}: Expected Account, Amount, str, int, bool or UUID, "
                    f"got {hint}"
                )
            word = _TYPES[hint][0]
            given = cls.__dict__.get(name)
            required = name not in cls.__dict__ or isinstance(given, Field)
            field = InputField(name, word, required, None if required else _plain(given))
            if not required:
                try:
                    msgspec.convert(field.default, _BY_WORD[word])
                except msgspec.ValidationError as error:
                    raise InputError(f"{cls.__name__}.{name}: the default: {error}") from None
            found.append(field)
            setattr(cls, name, Field(name, word))
        cls.fields = tuple(sorted(found, key=lambda field: not field.required))


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, uuid.UUID) else value


def _expression_of(value: object) -> Expression:
    if isinstance(value, Field | Condition):
        return value.expression
    if isinstance(value, bool | int | str):
        return ["value", value]
    raise InputError(f"Expected a field, a number, a text or a boolean, got {value!r}")


def amount_expression(value: object, where: str) -> Expression:
    """An amount: a field of that type, or a number."""
    if isinstance(value, Field):
        if value.word != "amount":
            raise InputError(f"{where}: {value.name} is no Amount; declare it as one")
        return value.expression
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= COUNTER_MAX:
        raise InputError(f"{where}: Expected an Amount or a number from 0, got {value!r}")
    return ["value", value]


def account_expression(value: object, where: str) -> Expression:
    """An account: a field of that type, or its name or id."""
    if isinstance(value, Field):
        if value.word != "account":
            raise InputError(f"{where}: {value.name} is no Account; declare it as one")
        return value.expression
    if isinstance(value, uuid.UUID):
        return ["account", str(value)]
    if not isinstance(value, str) or not value:
        raise InputError(f"{where}: Expected an Account, or an account's name or id, got {value!r}")
    return ["account", value]


def value_of(expression: Expression, values: Mapping[str, Any]) -> Any:
    """What an expression is, given the values of an input."""
    match expression:
        case ["field", name]:
            return values[name]
        case ["value", value]:
            return value
        case ["not", inner]:
            return not value_of(inner, values)
        case ["and", left, right]:
            return value_of(left, values) and value_of(right, values)
        case ["or", left, right]:
            return value_of(left, values) or value_of(right, values)
        case [sign, left, right]:
            return _COMPARISONS[sign](value_of(left, values), value_of(right, values))
    raise InputError(f"{expression!r} is no expression")


def column_of(expression: Expression, rows: Sequence[Mapping[str, Any]]) -> list[Any]:
    """`value_of` for many inputs."""
    match expression:
        case ["field", name]:
            return [values[name] for values in rows]
        case ["value", value]:
            return [value] * len(rows)
        case ["not", inner]:
            return [not value for value in column_of(inner, rows)]
    sign, left, right = expression
    columns = column_of(left, rows), column_of(right, rows)
    if sign == "and":
        return [a and b for a, b in zip(*columns, strict=True)]
    if sign == "or":
        return [a or b for a, b in zip(*columns, strict=True)]
    return list(map(_COMPARISONS[sign], *columns))


_COMPARISONS: Final = {
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
}


def struct_of(fields: tuple[InputField, ...]) -> type[msgspec.Struct]:
    """The type that an input is read as: typed values, defaults filled in, nothing unknown."""
    return msgspec.defstruct(
        "Input",
        [
            (f.name, _BY_WORD[f.type]) if f.required else (f.name, _BY_WORD[f.type], f.default)
            for f in fields
        ],
        forbid_unknown_fields=True,
        kw_only=True,
    )


def read_input(written: Mapping[str, Any], struct: type[msgspec.Struct]) -> dict[str, Any]:
    """An input's typed values, defaults among them.

    Raises:
        InputError: When it cannot be read; the message says where.
    """
    try:
        values = msgspec.structs.asdict(msgspec.convert(dict(written), struct, strict=True))
    except msgspec.ValidationError as error:
        raise InputError(str(error)) from None
    return {name: _plain(value) for name, value in values.items()}


_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)")
_SECONDS: Final = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
DURATION_SECONDS_MAX: Final = 10 * 366 * 86_400


def microseconds_of(duration: object, where: str) -> int:
    """A duration such as `30s`, `24h`, `3d`, or a number of seconds, in microseconds."""
    seconds = -1.0
    if isinstance(duration, int | float) and not isinstance(duration, bool):
        seconds = float(duration)
    elif isinstance(duration, str) and (match := _DURATION.fullmatch(duration)):
        seconds = float(match[1]) * _SECONDS[match[2]]
    if not 0 < seconds <= DURATION_SECONDS_MAX:
        raise InputError(
            f"{where}: Expected a duration up to ten years, as 30s, 15m, 24h, 3d, got {duration!r}"
        )
    return int(seconds * 1_000_000)
