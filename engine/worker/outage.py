"""What is said of something that is away, or in the way: when it begins, seldom, at its end."""

from typing import Final

import structlog

STILL_SECONDS: Final = 30.0
"""So long after it began it is said that it lasts; then after twice as long, and so on."""

_log = structlog.get_logger()


class Outage:
    """One thing that is away at times.

    Args:
        begins: The event when it begins; a warning.
        lasts: The event while it lasts; a warning.
        over: The event when it is over, with its length.
    """

    def __init__(self, begins: str, lasts: str, over: str) -> None:
        self._begins = begins
        self._lasts = lasts
        self._over = over
        self._since: float | None = None
        self._next_at = 0.0

    @property
    def is_on(self) -> bool:
        """Whether it is away, as far as is known."""
        return self._since is not None

    def note(self, reason: str, now: float) -> None:
        """It is away, again or still; `now` in seconds by the loop's clock."""
        if self._since is None:
            self._since, self._next_at = now, now + STILL_SECONDS
            _log.warning(self._begins, reason=reason)
        elif now >= self._next_at:
            seconds = now - self._since
            self._next_at = now + seconds
            _log.warning(self._lasts, reason=reason, seconds=round(seconds))

    def end(self, now: float) -> None:
        """It is there; nothing is said where it was not away."""
        if self._since is not None:
            _log.info(self._over, seconds=round(now - self._since, 1))
            self._since = None
