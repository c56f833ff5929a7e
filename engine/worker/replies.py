"""After the commit: answers to the producers, decided entries off the streams.

None of it may stall deciding. An answer that cannot be given is given up (at most once;
resubmitting tells the outcome); an entry that cannot be deleted is deleted later.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt
import structlog

from engine.book.columns import Postings
from engine.deciding.batch import Batch
from engine.errors import TryAgainError
from engine.ledger.nouns import Position
from engine.store.rows import DeadLetter, ShardProgress, Waiter
from engine.streams.refusals import NotNowError
from engine.streams.streams import Streams
from engine.wire.answers import encode_answer, encode_error
from engine.worker.bounds import DEAD_LETTER_REASON_MAX
from engine.worker.inbox import Arrival
from engine.worker.large_answers import Answer, LargeAnswers

if TYPE_CHECKING:
    from engine.streams.streams import Entry

NOT_KEPT: Final = "its dead letter could not be written; the log says why"

DELETE_AGAIN_SECONDS: Final = 1.0

_log = structlog.get_logger()


class Reply:
    """One entry and what is to be told about it; `outcomes` is None where nothing is."""

    __slots__ = ("arrival", "outcomes")

    def __init__(self, arrival: Arrival, outcomes: npt.NDArray[np.uint8] | None) -> None:
        self.arrival = arrival
        self.outcomes = outcomes


_NONE = np.empty(0, np.uint8)


def replies_of(
    arrivals: Sequence[Arrival], batch: Batch, outcomes: npt.NDArray[np.uint8]
) -> list[Reply]:
    """To each entry its outcomes."""
    ends = batch.ends.tolist()
    return [
        Reply(arrival, _outcomes_of(arrival, outcomes[start:end]))
        for arrival, start, end in zip(arrivals, ends[:-1], ends[1:], strict=True)
    ]


def _outcomes_of(arrival: Arrival, outcomes: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8] | None:
    if arrival.waits is not None:
        return None
    return outcomes if arrival.request is not None else _NONE


def waiting_of(arrivals: Iterable[Arrival]) -> list[Waiter]:
    """The entries that wait from now on."""
    return [arrival.waits for arrival in arrivals if arrival.waits is not None]


def released_of(arrivals: Iterable[Arrival]) -> list[tuple[int, Position]]:
    """The entries that waited and are decided: shard and position of each."""
    return [(a.entry.shard, a.entry.position) for a in arrivals if a.is_released]


def dead_letters(arrivals: Sequence[Arrival]) -> list[DeadLetter]:
    """The entries that cannot be read, or were set aside, as far as they can be kept."""
    return [
        DeadLetter(
            a.entry.shard,
            a.entry.position,
            _writable(a.unreadable.reason) if a.kept == "whole" else NOT_KEPT,
            a.entry.fields if a.kept == "whole" else [],
        )
        for a in arrivals
        if a.unreadable is not None and a.kept != "nothing"
    ]


def _writable(reason: str) -> str:
    """A reason that every database takes, whatever its encoding: printable ASCII."""
    text = reason[:DEAD_LETTER_REASON_MAX].encode("ascii", "backslashreplace").decode()
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)


def positions_of(
    posted: Postings, arrivals: Sequence[Arrival], reached: Mapping[int, Position]
) -> dict[int, Position]:
    """How far each shard gets that a flush touches: by an entry, or by a posting alone.

    Args:
        posted: The postings of the flush.
        arrivals: Its entries.
        reached: How far each shard got by all flushes before.
    """
    touched = np.flatnonzero(np.bincount(posted.stripe & 1023)).tolist()
    positions = {shard: reached[shard] for shard in touched}
    for arrival in arrivals:
        entry = arrival.entry
        # An entry from below the position does not move it.
        at = reached[entry.shard]
        positions[entry.shard] = max(positions.get(entry.shard, at), entry.position, at)
    return positions


def resolved_of(
    shards: Iterable[int], until: int, progress: Mapping[int, ShardProgress]
) -> dict[int, int]:
    """Up to when the holds of shards are resolved with a flush; it never goes back.

    Args:
        shards: Those that the flush touches.
        until: Up to when it leaves no hold that is due, of any shard.
        progress: How far the shards got before: one can be ahead of another that came later.
    """
    return {shard: max(until, progress[shard].resolved_until) for shard in shards}


class Replier:
    """A queue of committed flushes whose producers are to be told.

    Args:
        streams: Where to answer and delete.
    """

    def __init__(self, streams: Streams) -> None:
        self._streams = streams
        self._queue: asyncio.Queue[list[Reply]] = asyncio.Queue()
        self._undeleted: list[Entry] = []
        self.large = LargeAnswers(streams)
        """Those that go after others; somebody must run them."""

    def add(self, replies: list[Reply]) -> None:
        """Hand over a flush that is committed."""
        self._queue.put_nowait(replies)

    async def run(self) -> None:
        """Tell and delete, for ever; what could not be deleted is tried again after a while."""
        while True:
            try:
                async with asyncio.timeout(DELETE_AGAIN_SECONDS if self._undeleted else None):
                    replies = await self._queue.get()
            except TimeoutError:
                await self._tell_and_delete([])
                continue
            try:
                await self._send_replies(replies)
            finally:
                self._queue.task_done()

    async def await_told(self) -> None:
        """Wait until all that was handed over is told, but for what is large."""
        await self._queue.join()

    async def _send_replies(self, replies: list[Reply]) -> None:
        answers = [
            (reply, fields)
            for reply, fields in map(_answer, replies)
            if reply is not None and fields is not None
        ]
        # What waited was deleted when it began to wait.
        self._undeleted += [r.arrival.entry for r in replies if not r.arrival.is_released]
        await self._tell_and_delete(self.large.take_from(answers))

    async def _tell_and_delete(self, answers: Sequence[Answer]) -> None:
        """In one write, since each costs as much as to decide a few transfers."""
        try:
            await self._streams.answer(answers, self._undeleted)
            self._undeleted.clear()
        except TryAgainError as error:
            if answers and not isinstance(error, NotNowError):
                _log.warning("answers_given_up", answers=len(answers), reason=str(error))
            _log.warning("entries_not_deleted", entries=len(self._undeleted), reason=str(error))


def _answer(reply: Reply) -> tuple[bytes | None, dict[bytes, bytes] | None]:
    arrival = reply.arrival
    if reply.outcomes is None:
        return None, None
    if arrival.unreadable is not None:
        return arrival.unreadable.reply, encode_error(arrival.unreadable)
    if arrival.request is None or arrival.request.reply is None:
        return None, None
    return arrival.request.reply, encode_answer(arrival.request, reply.outcomes)
