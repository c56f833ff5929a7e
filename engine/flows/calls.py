"""Calls of one's own functions: each attempt once, many items together, every answer taken."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias

import msgspec
import structlog

from engine.flows.happenings import Answered, Call, Happening

CALLS_MAX: Final = 16
"""Batches of one function that run at the same time."""

CLOSE_SECONDS_MAX: Final = 2.0
"""How long functions that are cancelled may take to end."""

ITEMS_MAX: Final = 100
"""Items that a function gets at once."""

Hear: TypeAlias = Callable[[bytes, Happening], None]
Function: TypeAlias = Callable[[list["Item"]], Awaitable[Any]]

_log = structlog.get_logger()


class Item(msgspec.Struct, frozen=True):
    """What a function of a `call` gets for each flow.

    Its answer is `done`, `refused`, `again` (nothing happened) or `unknown`, alone or as the first
    of a pair with a dict that is kept.
    """

    flow: bytes
    key: bytes
    """Of idempotency: the same for all attempts."""
    attempt: int
    input: Mapping[str, Any]


class Calls:
    """The attempts that one session makes.

    Args:
        functions: What is called, by name.
        hear: Takes what came of an attempt.
    """

    def __init__(self, functions: Mapping[str, Function], hear: Hear) -> None:
        self._functions = functions
        self._hear = hear
        self._tasks: set[asyncio.Task[None]] = set()
        self._room: dict[str, asyncio.Semaphore] = {}
        self.in_flight: set[tuple[bytes, int]] = set()
        """Attempts that this session has made and that have not come back."""

    def call(self, calls: Sequence[Call], inputs: Mapping[bytes, Mapping[str, Any]]) -> None:
        """Make attempts of calls, each function's together; they come back as happenings."""
        by_function: dict[str, list[Call]] = {}
        for call in calls:
            self.in_flight.add((call.flow, call.seq))
            by_function.setdefault(call.function, []).append(call)
        for name, made in by_function.items():
            for start in range(0, len(made), ITEMS_MAX):
                piece = made[start : start + ITEMS_MAX]
                task = asyncio.create_task(self._run(name, piece, inputs))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def _run(
        self, name: str, calls: Sequence[Call], inputs: Mapping[bytes, Mapping[str, Any]]
    ) -> None:
        items = [Item(c.flow, c.key, c.attempt, inputs[c.flow]) for c in calls]
        results: Sequence[Any] = ()
        room = self._room.setdefault(name, asyncio.Semaphore(CALLS_MAX))
        async with room:
            try:
                made: Any = self._functions[name](items)
                found = await made if inspect.isawaitable(made) else made
                if isinstance(found, list | tuple):
                    results = found
            except Exception as error:  # noqa: BLE001 - what came of it is unknown, for all items
                _log.warning("call_raised", function=name, reason=repr(error))
        for place, call in enumerate(calls):
            outcome, detail = _result(results[place] if place < len(results) else None)
            self.in_flight.discard((call.flow, call.seq))
            self._hear(call.flow, Answered(call.seq, outcome, detail))

    async def close(self) -> None:
        """Wait for nothing any more; a function that does not let itself be cancelled is left."""
        self.abandon()
        if self._tasks:
            _, left = await asyncio.wait(self._tasks, timeout=CLOSE_SECONDS_MAX)
            if left:
                _log.warning("calls_left_behind", calls=len(left))

    def abandon(self) -> None:
        """Cancel every attempt that has not come back."""
        for task in self._tasks:
            task.cancel()


def _result(written: Any) -> tuple[str, dict[str, Any]]:
    detail: dict[str, Any] = {}
    if isinstance(written, tuple) and len(written) == 2 and isinstance(written[1], dict):
        written, detail = written
    known = isinstance(written, str) and written in {"done", "refused", "again"}
    return (str(written) if known else "unknown"), detail
