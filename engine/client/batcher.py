"""Single transfers of many callers, gathered into entries, one batcher a shard. No timer.

While entries of a shard are unanswered, further transfers queue; when one is answered, all
that queued go out together. So a lone caller waits for nobody, and a thousand share entries.
"""

import asyncio
from collections import deque
from functools import partial
from typing import Final

from engine.client.backpressure import WAIT_SECONDS, Backpressure
from engine.client.delivery import Delivery
from engine.client.entry import OutgoingEntry
from engine.client.inputs import TransferLike, parse_transfer, parse_transfers
from engine.errors import EngineError, InputError, TryAgainError
from engine.ledger.nouns import BATCH_TRANSFERS_MAX
from engine.ledger.outcomes import Outcome

IN_FLIGHT_MAX: Final = 2
"""Entries of one batcher that may be unanswered."""

OUTCOMES: Final[list[Outcome]] = [Outcome.created] * 256
for _outcome in Outcome:
    OUTCOMES[_outcome] = _outcome

Single = tuple[TransferLike, "asyncio.Future[Outcome]", float]
"""A transfer, who waits for its outcome, and until when."""


class Batcher:
    """The single transfers of one shard.

    Args:
        shard: The shard.
        delivery: Where entries go.
        backpressure: Whether they may.
    """

    def __init__(self, shard: int, delivery: Delivery, backpressure: Backpressure) -> None:
        self._shard = shard
        self._delivery = delivery
        self._backpressure = backpressure
        self._loop = asyncio.get_running_loop()
        self._queue: deque[Single] = deque()
        self._in_flight = 0
        self._is_scheduled = False
        self._is_full = False

    def __len__(self) -> int:
        return len(self._queue)

    def add(self, transfer: TransferLike, deadline: float) -> "asyncio.Future[Outcome]":
        """Queue a transfer, which is read when its entry is made: many at once cost less.

        Args:
            transfer: Not linked, and nobody else's to change.
            deadline: By the client's clock.

        Returns:
            Gets its outcome, or the error that says why there is none.
        """
        future: asyncio.Future[Outcome] = self._loop.create_future()
        self._queue.append((transfer, future, deadline))
        if not self._is_scheduled and self._in_flight < IN_FLIGHT_MAX:
            # Soon and not now: whoever else calls in this turn of the loop comes along.
            self._is_scheduled = True
            self._loop.call_soon(self._ask_for_room)
        return future

    def expire(self, now: float) -> None:
        """Let those go whose time is up before they were sent."""
        while self._queue and self._queue[0][2] <= now:
            _, future, _ = self._queue.popleft()
            _fail(
                future,
                self._backpressure.full(self._shard)
                if self._is_full
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

    def _ask_for_room(self) -> None:
        if self._queue and self._in_flight < IN_FLIGHT_MAX:
            self._is_scheduled = True
            self._backpressure.check(self._shard, self._send_entry)
        else:
            self._is_scheduled = False

    def _send_entry(self, is_open: bool) -> None:  # noqa: FBT001 - as `Backpressure.check` says
        self._is_full = not is_open
        if not is_open:
            if self._backpressure.waits:
                self._loop.call_later(WAIT_SECONDS, self._ask_for_room)
                return
            self._is_scheduled = False
            self.fail(self._backpressure.full(self._shard))
            return
        singles = self._take_singles()
        payload = _pack(singles)
        if payload is None:  # A transfer cannot be read; its caller is told, the others go on.
            singles = [single for single in singles if _is_readable(single)]
            payload = _pack(singles)
        if payload:
            futures = [future for _, future, _ in singles]
            deadline = min(deadline for _, _, deadline in singles)
            self._in_flight += 1
            self._delivery.send(
                OutgoingEntry(
                    self._shard, payload, deadline, partial(self._hand_out_outcomes, futures)
                )
            )
        self._ask_for_room()

    def _take_singles(self) -> list[Single]:
        """As many as fit an entry; those whose callers have gone are left out."""
        singles: list[Single] = []
        while self._queue and len(singles) < BATCH_TRANSFERS_MAX:
            single = self._queue.popleft()
            if not single[1].done():
                singles.append(single)
        return singles

    def _hand_out_outcomes(
        self,
        futures: "list[asyncio.Future[Outcome]]",
        _: OutgoingEntry,
        result: bytes | EngineError,
    ) -> None:
        self._in_flight -= 1
        if isinstance(result, bytes):
            for future, number in zip(futures, result, strict=True):
                if not future.done():
                    future.set_result(OUTCOMES[number])
        else:
            for future in futures:
                _fail(future, result)
        if not self._is_scheduled and self._queue:
            self._is_scheduled = True
            self._loop.call_soon(self._ask_for_room)


def _pack(singles: list[Single]) -> bytes | None:
    """As `bin`; None where one cannot be read."""
    try:
        return parse_transfers([transfer for transfer, _, _ in singles]).tobytes()
    except InputError:
        return None


def _is_readable(single: Single) -> bool:
    """Whether a transfer can be read; its caller is told where it cannot."""
    transfer, future, _ = single
    try:
        parse_transfers([parse_transfer(transfer)])
    except InputError as error:
        _fail(future, error)
        return False
    return True


def _fail(future: "asyncio.Future[Outcome]", error: EngineError) -> None:
    """Each gets an error of its own: a shared one would collect everybody's traceback."""
    if not future.done():
        future.set_exception(type(error)(*error.args))
