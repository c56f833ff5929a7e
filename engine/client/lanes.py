"""Single transfers of many callers, gathered into entries, one lane a shard. No timer.

While entries of a lane are unanswered, further transfers queue; when one is answered, all
that queued go out together. So a lone caller waits for nobody, and a thousand share entries.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

from engine.client.gate import WAIT_SECONDS, Gate
from engine.client.parcel import Parcel
from engine.client.road import Road
from engine.errors import EngineError, TryAgainError
from engine.nouns import BATCH_TRANSFERS_MAX
from engine.outcomes import Outcome

IN_FLIGHT_MAX: Final = 2
"""Entries of one lane that may be unanswered."""

OUTCOMES: Final[list[Outcome]] = [Outcome.created] * 256
for _outcome in Outcome:
    OUTCOMES[_outcome] = _outcome

Single = tuple[bytes, "asyncio.Future[Outcome]", float]
"""A transfer as `bin`, who waits for its outcome, and until when."""


class Lane:
    """The single transfers of one shard.

    Args:
        shard: The shard.
        road: Where entries go.
        gate: Whether they may.
        on_created: Told of every entry that was answered.
    """

    def __init__(
        self, shard: int, road: Road, gate: Gate, on_answered: Callable[[Parcel], None]
    ) -> None:
        self._shard = shard
        self._road = road
        self._gate = gate
        self._on_answered = on_answered
        self._loop = asyncio.get_running_loop()
        self._queue: deque[Single] = deque()
        self._in_flight = 0
        self._is_called = False

    def __len__(self) -> int:
        return len(self._queue)

    def add(self, packed: bytes, deadline: float) -> "asyncio.Future[Outcome]":
        """Queue a transfer; the future gets its outcome, or the error that there is none."""
        future: asyncio.Future[Outcome] = self._loop.create_future()
        self._queue.append((packed, future, deadline))
        if not self._is_called and self._in_flight < IN_FLIGHT_MAX:
            # Soon and not now: whoever else calls in this turn of the loop comes along.
            self._is_called = True
            self._loop.call_soon(self._go)
        return future

    def expire(self, now: float) -> None:
        """Let those go whose time is up before they were sent."""
        while self._queue and self._queue[0][2] <= now:
            _, future, _ = self._queue.popleft()
            _fail(
                future,
                self._gate.full(self._shard)
                if self._is_called
                else TryAgainError(
                    f"the transfer was not sent within its time limit: entries of shard "
                    f"{self._shard} sent before it are not answered; try again"
                ),
            )

    def fail(self, error: EngineError) -> None:
        """Let everyone go who waits and was not sent."""
        queue, self._queue = self._queue, deque()
        for _, future, _ in queue:
            _fail(future, error)

    def _go(self) -> None:
        if self._queue and self._in_flight < IN_FLIGHT_MAX:
            self._is_called = True
            self._gate.check(self._shard, self._checked)
        else:
            self._is_called = False

    def _checked(self, is_open: bool) -> None:  # noqa: FBT001 - the answer of the gate
        if not is_open:
            if self._gate.waits:
                self._loop.call_later(WAIT_SECONDS, self._go)
                return
            self._is_called = False
            self.fail(self._gate.full(self._shard))
            return
        singles = self._take()
        if singles:
            futures = [single[1] for single in singles]
            parcel = Parcel(
                self._shard,
                b"".join([single[0] for single in singles]),
                min(single[2] for single in singles),
                lambda parcel, result: self._landed(parcel, result, futures),
            )
            self._in_flight += 1
            self._road.send(parcel)
        self._go()

    def _take(self) -> list[Single]:
        """As many as fit an entry; those whose callers have gone are left out."""
        singles: list[Single] = []
        while self._queue and len(singles) < BATCH_TRANSFERS_MAX:
            single = self._queue.popleft()
            if not single[1].done():
                singles.append(single)
        return singles

    def _landed(
        self,
        parcel: Parcel,
        result: bytes | EngineError,
        futures: "list[asyncio.Future[Outcome]]",
    ) -> None:
        self._in_flight -= 1
        if isinstance(result, bytes):
            self._on_answered(parcel)
            for future, number in zip(futures, result, strict=True):
                if not future.done():
                    future.set_result(OUTCOMES[number])
        else:
            for future in futures:
                _fail(future, result)
        if not self._is_called and self._queue:
            self._is_called = True
            self._loop.call_soon(self._go)


def _fail(future: "asyncio.Future[Outcome]", error: EngineError) -> None:
    """Each gets an error of its own: a shared one would collect everybody's traceback."""
    if not future.done():
        future.set_exception(type(error)(*error.args))
