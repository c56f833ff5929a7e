"""How the next flush is attempted after some that came to nothing, and what is to blame at last.

A flush can come to nothing since another came first, since somebody holds a lock, since Postgres
refuses what it is to write, since what was decided contradicts itself, or since it takes too long.
The first two pass: it is decided again, and waited for. The others can come from a single entry or
hold, which must not stop all others: flushes become smaller by halves, locked, until it stands
alone; then it is set aside. What alone takes too long is not to blame for certain: its shard stands
for a while, and others go on. After each success they grow again.
"""

from typing import Final

from engine.errors import (
    ChainMovedError,
    ConflictError,
    EngineError,
    FundsArrivedError,
    LockHeldError,
    RefusedError,
    TooMuchError,
    TryAgainError,
)
from engine.store.driver import STATEMENT_SECONDS_MAX

CONFLICTS_UNLOCKED_MAX: Final = 3
"""So often in a row may others come first; then they are locked out."""

PORTION_MAX: Final = 8_192
"""From so many entries on flushes are not kept small any more."""

SLOW_PARTS: Final = 8
"""What took too long is tried in so many parts: to try costs the whole time each time."""

QUICK_SECONDS: Final = STATEMENT_SECONDS_MAX / 4
"""A flush that took longer is not made larger: twice as much could take too long."""

WAIT_SECONDS_MIN: Final = 0.02
"""Between two attempts where somebody holds a lock; twice as long after each, up to the setting."""


class UndecidableError(TryAgainError):
    """What was decided, or was to be, contradicts the book or the ledger: decide again."""


ATTEMPT_FAILED: Final = (
    ConflictError,
    ChainMovedError,
    RefusedError,
    TooMuchError,
    UndecidableError,
)
"""What ends an attempt and no session."""


def plain_words(error: EngineError) -> str:
    """What happened, for whoever reads the log: most of it is nobody's fault."""
    for kind, words in _WORDS:
        if isinstance(error, kind):
            return words
    return str(error)


_WORDS: Final = (
    (ChainMovedError, "another worker took a shard of this one, or wrote on its accounts"),
    (FundsArrivedError, "money arrived from elsewhere for what was about to be declined"),
    (LockHeldError, "somebody else holds a lock"),
    (ConflictError, "another flush wrote one of these ids, holds or accounts first"),
)


class Attempts:
    """Attempts in a row that came to nothing.

    Args:
        conflicts_max: After so many conflicts in a row flushes become smaller.
        wait_seconds_max: Longest wait for a lock between two attempts.
    """

    def __init__(self, conflicts_max: int, wait_seconds_max: float) -> None:
        self._conflicts_max = conflicts_max
        self._wait_seconds_max = wait_seconds_max
        self._wait_seconds = WAIT_SECONDS_MIN
        self.conflicts = 0
        """In a row; waits for locks are not counted."""
        self.arrived = 0
        """How many of them were about funds that arrived."""
        self.portion: int | None = None
        """How many entries, or holds that expire, go into a flush while the one to blame is looked
        for; None while nobody is."""

    @property
    def is_locked(self) -> bool:
        """Whether others are locked out of the next attempt."""
        return self.portion is not None or self.conflicts > CONFLICTS_UNLOCKED_MAX

    def blames(self, error: EngineError) -> bool:
        """Whether an error comes from what was attempted, and not from others."""
        if isinstance(error, RefusedError | TooMuchError | UndecidableError):
            return True
        passes = isinstance(error, FundsArrivedError | LockHeldError)
        is_conflict = isinstance(error, ConflictError) and not passes
        return is_conflict and self.conflicts > self._conflicts_max

    def fail(self, error: EngineError, size: int) -> float:
        """An attempt came to nothing; returns for how many seconds to wait before the next.

        Args:
            error: Why.
            size: Entries and holds in it.
        """
        if isinstance(error, LockHeldError):
            seconds = self._wait_seconds
            self._wait_seconds = min(2 * seconds, self._wait_seconds_max)
            return seconds
        self.conflicts += 1
        self.arrived += isinstance(error, FundsArrivedError)
        if size and self.blames(error):
            most = size if self.portion is None else min(size, self.portion)
            parts = SLOW_PARTS if isinstance(error, TooMuchError) else 2
            self.portion = max(1, most // parts)
        return 0.0

    def succeed(self) -> None:
        """A flush is committed."""
        self.conflicts = self.arrived = 0
        self._wait_seconds = WAIT_SECONDS_MIN

    def grow(self, seconds: float) -> None:
        """A small flush is committed, in so many seconds: the next may be larger."""
        if self.portion is not None and seconds <= QUICK_SECONDS:
            self.portion *= 2
            if self.portion > PORTION_MAX:
                self.portion = None
