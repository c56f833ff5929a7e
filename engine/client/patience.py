"""A clock that stands still while our own event loop is busy.

Who waits by it for an answer waits for the time in which an answer could have been heard. A caller
that computes for a minute between two awaits finds its answers in the socket, and no time limit
passed.
"""

import asyncio
from typing import Final

TICK_SECONDS: Final = 0.1
"""How often the clock is looked after."""

LATE_SECONDS_MAX: Final = 0.25
"""A tick that is later than this was held up by our own loop."""


class Patience:
    """Counts the time in which the event loop was free. Seconds."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._busy = 0.0
        self._ticked_at = self._loop.time()

    def time(self) -> float:
        """Now."""
        return self._loop.time() - self._busy

    async def tick(self) -> None:
        """Wait for the next tick."""
        await asyncio.sleep(TICK_SECONDS)
        before, self._ticked_at = self._ticked_at, self._loop.time()
        passed = self._ticked_at - before
        self._busy += max(passed - TICK_SECONDS - LATE_SECONDS_MAX, 0.0)
