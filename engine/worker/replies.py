"""After the commit: answers to the producers, decided entries off the streams.

None of it may stall deciding. An answer that cannot be given is given up (at most once;
resubmitting tells the outcome); an entry that cannot be deleted is deleted later.
"""

import asyncio
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt
import structlog

from engine.errors import TryAgainError
from engine.streams.streams import Streams
from engine.wire.answers import encode_answer, encode_error
from engine.worker.inbox import Arrival

if TYPE_CHECKING:
    from engine.streams.streams import Entry

DELETE_AGAIN_SECONDS: Final = 1.0

_log = structlog.get_logger()


class Told:
    """One entry and what is to be told about it; `outcomes` is None where nothing is."""

    __slots__ = ("arrival", "outcomes")

    def __init__(self, arrival: Arrival, outcomes: npt.NDArray[np.uint8] | None) -> None:
        self.arrival = arrival
        self.outcomes = outcomes


class Aftermath:
    """A queue of committed flushes whose producers are to be told.

    Args:
        streams: Where to answer and delete.
    """

    def __init__(self, streams: Streams) -> None:
        self._streams = streams
        self._queue: asyncio.Queue[list[Told]] = asyncio.Queue()
        self._undeleted: list[Entry] = []

    def add(self, told: list[Told]) -> None:
        """Hand over a flush that is committed."""
        self._queue.put_nowait(told)

    async def run(self) -> None:
        """Tell and delete, for ever; what could not be deleted is tried again after a while."""
        while True:
            try:
                async with asyncio.timeout(DELETE_AGAIN_SECONDS if self._undeleted else None):
                    told = await self._queue.get()
            except TimeoutError:
                await self._delete()
                continue
            try:
                await self._tell(told)
            finally:
                self._queue.task_done()

    async def finish(self) -> None:
        """Wait until all that was handed over is told."""
        await self._queue.join()

    async def _tell(self, told: list[Told]) -> None:
        answers = [
            (reply, fields)
            for reply, fields in map(_answer, told)
            if reply is not None and fields is not None
        ]
        try:
            if answers:
                await self._streams.answer(answers)
        except TryAgainError as error:
            _log.warning("answers_given_up", answers=len(answers), reason=str(error))
        self._undeleted += [one.arrival.entry for one in told]
        await self._delete()

    async def _delete(self) -> None:
        try:
            await self._streams.remove(self._undeleted)
            self._undeleted.clear()
        except TryAgainError as error:
            _log.warning("entries_not_deleted", entries=len(self._undeleted), reason=str(error))


def _answer(told: Told) -> tuple[bytes | None, dict[bytes, bytes] | None]:
    arrival = told.arrival
    if told.outcomes is None:
        return None, None
    if arrival.unreadable is not None:
        return arrival.unreadable.reply, encode_error(arrival.unreadable)
    if arrival.request is None or arrival.request.reply is None:
        return None, None
    return arrival.request.reply, encode_answer(arrival.request, told.outcomes)
