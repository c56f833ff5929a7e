"""What is said of something that is away, or in the way: when it begins, seldom, at its end.

What ends and begins again within moments is one thing that comes and goes: after a few times it is
said as seldom as of one that lasts.
"""

import asyncio
from typing import Final

import structlog

STILL_SECONDS: Final = 30.0
"""So long after it began it is said that it lasts; then after twice as long, and so on."""

CALM_SECONDS: Final = 30.0
"""What begins again so soon after its end has not ended."""

TIMES_MAX: Final = 3
"""So often in a row each beginning and each end is said."""

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
        self._since = 0.0
        self._times = 0
        self._is_on = False
        self._ended_at = -CALM_SECONDS
        self._next_at = 0.0
        self._end: asyncio.TimerHandle | None = None

    @property
    def is_on(self) -> bool:
        """Whether it is away, as far as is known."""
        return self._is_on

    def is_repeating(self, now: float) -> bool:
        """Whether it comes and goes, lately too."""
        is_lately = self._is_on or now - self._ended_at < CALM_SECONDS
        return is_lately and self._times >= TIMES_MAX

    def describe(self, now: float) -> str:
        """How often, in how long a time."""
        return f"{self._times} times in {now - self._since:.0f} s"

    def note(self, reason: str, now: float) -> None:
        """It is away, again or still; `now` in seconds by the loop's clock."""
        if not self._is_on:
            self._is_on = True
            if self._end is not None:
                self._end.cancel()
                self._end = None
            if now - self._ended_at >= CALM_SECONDS:
                self._times, self._since, self._next_at = 0, now, now + STILL_SECONDS
            self._times += 1
            if self._times <= TIMES_MAX:
                _log.warning(self._begins, reason=reason)
                return
        if now >= self._next_at:
            seconds = now - self._since
            self._next_at = now + seconds
            repeated = {"times": self._times} if self._times > 1 else {}
            _log.warning(self._lasts, reason=reason, seconds=round(seconds), **repeated)

    def end(self, now: float) -> None:
        """It is there; nothing is said where it was not away."""
        if not self._is_on:
            return
        self._is_on, self._ended_at = False, now
        if self._times <= TIMES_MAX:
            _log.info(self._over, seconds=round(now - self._since, 1))
        else:
            self._end = asyncio.get_running_loop().call_later(CALM_SECONDS, self._say_over)

    def _say_over(self) -> None:
        seconds = round(self._ended_at - self._since, 1)
        _log.info(self._over, seconds=seconds, times=self._times)
