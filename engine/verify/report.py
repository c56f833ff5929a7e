"""What `verify` found."""

from typing import Any, Final

import msgspec

OFFENDERS_MAX: Final = 10
"""So many offenders of a check are named."""


class CheckResult(msgspec.Struct, frozen=True):
    """One check: what was counted and who fails it."""

    name: str
    title: str
    """What holds where it passes, as a sentence."""
    counted: dict[str, int]
    """How many of what were looked at."""
    faults: int
    """How many of them fail."""
    offenders: list[dict[str, Any]]
    """The first of those, in the order in which they were written: `what` it is, its `fault`,
    and what it takes to find it."""
    passed: bool
    seconds: float


class Report(msgspec.Struct, frozen=True):
    """All checks of one snapshot."""

    checks: list[CheckResult]
    passed: bool
