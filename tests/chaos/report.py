"""What happened in a run: what was injected when, how long each recovery took, what was counted."""

import statistics
import time
from collections.abc import Callable
from typing import NamedTuple


class Injection(NamedTuple):
    """One fault."""

    kind: str
    at_seconds: float
    """Since the run began."""
    seconds: float
    """How long it lasted."""
    recovery_seconds: float
    """From its end until each shard had answered again."""


class Report:
    """Lines as things happen, and tables at the end.

    Args:
        tell: Gets each line.
    """

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._began = time.monotonic()
        self.injections: list[Injection] = []

    def now(self) -> float:
        """Seconds since the run began."""
        return time.monotonic() - self._began

    def say(self, what: str) -> None:
        """A line with the time before it."""
        self._tell(f"{self.now():7.1f} s  {what}")

    def add(self, injection: Injection) -> None:
        """Note a fault that is over, and recovered from."""
        self.injections.append(injection)
        self.say(
            f"  over after {injection.seconds:.1f} s; each shard had answered "
            f"{injection.recovery_seconds:.2f} s later"
        )

    def end(self, seed: int, counted: dict[str, str]) -> None:
        """The tables."""
        self._tell(f"\nseed {seed}, {self.now():.0f} s, {len(self.injections)} faults\n")
        self._tell(
            f"{'fault':24} {'times':>5} {'lasted':>9} {'recovery, s: median':>21} {'most':>7}"
        )
        kinds = sorted({injection.kind for injection in self.injections})
        for kind in kinds:
            of_kind = [injection for injection in self.injections if injection.kind == kind]
            recoveries = [injection.recovery_seconds for injection in of_kind]
            lasted = statistics.fmean(injection.seconds for injection in of_kind)
            self._tell(
                f"{kind:24} {len(of_kind):5} {lasted:7.1f} s {statistics.median(recoveries):21.2f} "
                f"{max(recoveries):7.2f}"
            )
        self._tell("")
        for what, count in counted.items():
            self._tell(f"{what:24} {count}")
