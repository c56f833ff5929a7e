"""A deterministic event loop with a virtual clock, and processes that run, freeze and die on it.

Nothing is waited for: when no callback is ready, time jumps to the next timer. Callbacks run in
the order in which asyncio promises to run them; what is drawn from a seed are the delays.
Tasks and futures hash by their number and not by their address, so that whoever keeps them in
a set visits them in the same order in every run.
"""

import asyncio
import contextvars
import heapq
import itertools
from collections.abc import Callable, Coroutine
from typing import Any

CANCELLED_MAX = 64
"""So many cancelled timers are kept before they are forgotten together."""


class StuckError(Exception):
    """Nothing is ready and no timer is set: nothing will ever happen again."""


class _Future(asyncio.Future):
    def __init__(self, number: int, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop=loop)
        self.number = number

    def __hash__(self) -> int:
        return self.number

    def __eq__(self, other: object) -> bool:
        return self is other


class _Task(asyncio.Task):
    def __init__(self, number: int, coro: Any, **more: Any) -> None:
        self.number = number
        super().__init__(coro, **more)

    def __hash__(self) -> int:
        return self.number

    def __eq__(self, other: object) -> bool:
        return self is other


class SimulatedLoop(asyncio.BaseEventLoop):
    """The loop. Its time begins at 0 and is in seconds."""

    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0
        self._clock_resolution = 1e-9
        self._numbers = itertools.count()
        self.errors: list[dict[str, Any]] = []
        self.set_task_factory(
            lambda loop, coro, **more: _Task(next(self._numbers), coro, loop=loop, **more)
        )
        self.set_exception_handler(lambda _, context: self.errors.append(context))

    def time(self) -> float:
        return self._now

    def create_future(self) -> asyncio.Future:
        return _Future(next(self._numbers), self)

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> Any:
        done = self.create_future()
        try:
            done.set_result(func(*args))
        except Exception as error:  # noqa: BLE001 - it is the future's to raise
            done.set_exception(error)
        return done

    def _write_to_self(self) -> None:
        """Nobody sleeps in a selector, so there is nobody to wake."""

    def _run_once(self) -> None:
        scheduled, ready = self._scheduled, self._ready
        if self._timer_cancelled_count > CANCELLED_MAX:
            self._forget_cancelled()
            scheduled = self._scheduled
        while scheduled and scheduled[0]._cancelled:
            self._timer_cancelled_count -= 1
            heapq.heappop(scheduled)._scheduled = False
        if not ready:
            if not scheduled:
                raise StuckError(f"nothing happens after {self._now:.6f} s")
            self._now = max(self._now, scheduled[0]._when)
        end = self._now + self._clock_resolution
        while scheduled and scheduled[0]._when < end:
            handle = heapq.heappop(scheduled)
            handle._scheduled = False
            if not handle._cancelled:
                ready.append(handle)
        for _ in range(len(ready)):
            handle = ready.popleft()
            if handle._cancelled:
                continue
            process = handle._context.get(PROCESS)
            if process is not None and process.frozen:
                process.parked.append(handle)
            else:
                handle._run()

    def _forget_cancelled(self) -> None:
        kept = []
        for handle in self._scheduled:
            if handle._cancelled:
                handle._scheduled = False
            else:
                kept.append(handle)
        heapq.heapify(kept)
        self._scheduled = kept
        self._timer_cancelled_count = 0


class Process:
    """What can be frozen and killed as one: tasks, their timers, their ends of connections.

    Args:
        name: For the trace.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.frozen = False
        self.dead = False
        self.parked: list[asyncio.Handle] = []
        self.sockets: dict[Any, None] = {}
        """Whatever has a `kill` and is open, in the order in which it was opened."""
        self.task: asyncio.Task | None = None
        self._context = contextvars.Context()
        self._context.run(PROCESS.set, self)

    def start(self, coro: Coroutine[Any, Any, Any]) -> asyncio.Task:
        """Run the process's main task."""
        self.task = asyncio.get_running_loop().create_task(coro, context=self._context.copy())
        return self.task

    def freeze(self) -> None:
        """As SIGSTOP: nothing of it runs; what it holds elsewhere it goes on holding."""
        self.frozen = True

    def thaw(self) -> None:
        """As SIGCONT: what became due meanwhile runs now, in order."""
        self.frozen = False
        loop = asyncio.get_running_loop()
        loop._ready.extend(self.parked)
        self.parked.clear()

    def kill(self) -> None:
        """As SIGKILL: whatever of it still runs can reach nobody, and ends."""
        self.dead = True
        for socket in list(self.sockets):
            socket.kill()
        if self.frozen:
            self.thaw()
        if self.task is not None:
            self.task.cancel()


PROCESS: contextvars.ContextVar[Process | None] = contextvars.ContextVar("PROCESS", default=None)

NO_PROCESS = contextvars.Context()
"""The context of servers: never frozen with a client in whose name they act."""


def spawn(coro: Coroutine[Any, Any, Any]) -> asyncio.Task:
    """A task that belongs to no process."""
    return asyncio.get_running_loop().create_task(coro, context=NO_PROCESS.copy())


def later(seconds: float, callback: Callable[..., Any], *args: Any) -> asyncio.TimerHandle:
    """Call after a while, on behalf of no process."""
    loop = asyncio.get_running_loop()
    return loop.call_later(seconds, callback, *args, context=NO_PROCESS.copy())


def simulate(coro: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine on a loop of its own to its end."""
    loop = SimulatedLoop()
    try:
        return loop.run_until_complete(coro)
    finally:
        loop.close()
