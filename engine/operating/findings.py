"""The nouns of `doctor`: what was found, how urgent it is, and the command that comes next."""

from collections.abc import Iterator
from typing import Literal, NamedTuple, TypeAlias

import msgspec

Severity: TypeAlias = Literal["urgent", "warning", "note"]
"""urgent: money waits or could be lost now. warning: it will be so. note: worth knowing."""


class Verdict(NamedTuple):
    """What a rule says."""

    severity: Severity
    finding: str
    command: str


Verdicts: TypeAlias = Iterator[Verdict]


class Finding(msgspec.Struct, frozen=True):
    """Something an operator should know, and the command that comes next."""

    severity: Severity
    finding: str
    command: str
    rule: str
    """The name of the rule that found it."""
