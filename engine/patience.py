"""Time in which our own event loop was busy is no silence of others.

Whoever waits for a server or a sender waits for the time in which an answer could have been heard.
A process that computes for a minute between two awaits, or is stopped as long, finds its answers in
the socket, and no time limit has passed. So time is counted by ticks of the event loop: a tick that
comes late counts as one, and ends nothing, since what came meanwhile is read before the next.

A lease is not measured so: it ends by Postgres's clock, however busy its holder.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Final, Self

TICK_SECONDS: Final = 0.1
"""How often the clock is looked after."""

LATE_SECONDS_MAX: Final = 0.25
"""A tick that is later than this was held up by our own loop."""


class Patience:
    """Counts the time in which the event loop was free. Used by one event loop.

    Args:
        on_tick: Called at each tick, once what came until then is read.
    """

    def __init__(self, on_tick: Callable[[], None] = lambda: None) -> None:
        self.on_tick = on_tick
        self._loop = asyncio.get_running_loop()
        self._free_seconds = 0.0
        self._ticked_at = self._loop.time()
        self._is_late = False
        self._timer: asyncio.TimerHandle | None = None

    def time(self) -> float:
        """Now, in seconds; it stands still while nobody counts."""
        if self._timer is None:
            return self._free_seconds
        return self._free_seconds + min(self._loop.time() - self._ticked_at, TICK_SECONDS)

    def start(self) -> None:
        """Count from now on."""
        if self._timer is None:
            self._ticked_at = self._loop.time()
            self._timer = self._loop.call_later(TICK_SECONDS, self._tick)

    def stop(self) -> None:
        """Count no more."""
        if self._timer is not None:
            self._free_seconds = self.time()
            self._timer.cancel()
            self._timer = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _tick(self) -> None:
        before, self._ticked_at = self._ticked_at, self._loop.time()
        passed = self._ticked_at - before
        self._free_seconds += min(passed, TICK_SECONDS + LATE_SECONDS_MAX)
        self._timer = self._loop.call_later(TICK_SECONDS, self._tick)
        # Where each turn of the loop is long, every second tick tells all the same.
        self._is_late = passed > TICK_SECONDS + LATE_SECONDS_MAX and not self._is_late
        if not self._is_late:
            self.on_tick()


@contextlib.asynccontextmanager
async def within(seconds: float) -> AsyncIterator[None]:
    """What is done in the block has so much time, in which our event loop is free.

    Raises:
        TimeoutError: The time has passed; what was waited for is cancelled.
    """
    async with asyncio.timeout(None) as limit:

        def on_tick() -> None:
            if patience.time() >= seconds:
                patience.stop()
                limit.reschedule(asyncio.get_running_loop().time())

        with Patience(on_tick) as patience:
            yield
