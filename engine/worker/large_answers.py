"""Answers that are too many bytes to go with others: they go by themselves, a little at a time.

A producer may have its `request` echoed thousands of times, or be far away: what is for it must not
hold back the answers of others, nor the deletes of entries that are decided.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from typing import Final, TypeAlias

import structlog

from engine.errors import TryAgainError
from engine.streams.streams import Streams

QUICK_BYTES_MAX: Final = 1024 * 1024
"""Of all answers that go in one write with deletes; and of one write of those that go after."""

WAITING_BYTES_MAX: Final = 64 * 1024 * 1024
"""Of answers that wait to go after others; what is more is given up."""

Answer: TypeAlias = tuple[bytes, dict[bytes, bytes]]
"""The stream that waits for it, and its fields."""

_log = structlog.get_logger()


def size_of(answer: Answer) -> int:
    """How many bytes it has."""
    stream, fields = answer
    return len(stream) + sum(len(name) + len(value) for name, value in fields.items())


class LargeAnswers:
    """A queue of answers that go after others; those for one stream keep their order.

    Args:
        streams: Where to answer.
    """

    def __init__(self, streams: Streams) -> None:
        self._streams = streams
        self._waiting: deque[Answer] = deque()
        self._bytes = 0
        self._of_stream: Counter[bytes] = Counter()
        self._there = asyncio.Event()
        self._none = asyncio.Event()
        self._none.set()

    def take_from(self, answers: Sequence[Answer]) -> list[Answer]:
        """Take those that are to go after others; returns the others, in order."""
        total = sum(map(size_of, answers))
        if total <= QUICK_BYTES_MAX and not self._of_stream:
            return list(answers)
        sizes: Counter[bytes] = Counter()
        for answer in answers:
            sizes[answer[0]] += size_of(answer)
        quick: set[bytes] = set()
        room = QUICK_BYTES_MAX
        for stream, size in sorted(sizes.items(), key=lambda item: item[1]):
            room -= size
            if room >= 0 and not self._of_stream[stream]:
                quick.add(stream)
        self._add(answer for answer in answers if answer[0] not in quick)
        return [answer for answer in answers if answer[0] in quick]

    def _add(self, answers: Iterable[Answer]) -> None:
        given_up = 0
        for answer in answers:
            size = size_of(answer)
            if self._bytes + size > WAITING_BYTES_MAX:
                given_up += 1
                continue
            self._waiting.append(answer)
            self._bytes += size
            self._of_stream[answer[0]] += 1
        if given_up:
            _log.warning("answers_given_up", answers=given_up, reason="too many of them wait")
        if self._waiting:
            self._none.clear()
            self._there.set()

    async def run(self) -> None:
        """Give them, for ever, a write after the other; those that cannot be given are given up."""
        while True:
            await self._there.wait()
            part = self._next_part()
            try:
                await self._streams.answer_apart(part)
            except TryAgainError as error:
                _log.warning("answers_given_up", answers=len(part), reason=str(error))
            for answer in part:
                self._bytes -= size_of(answer)
                self._of_stream[answer[0]] -= 1
            self._of_stream = +self._of_stream
            if not self._waiting:
                self._there.clear()
                self._none.set()

    def _next_part(self) -> list[Answer]:
        part = [self._waiting.popleft()]
        room = QUICK_BYTES_MAX - size_of(part[0])
        while self._waiting and size_of(self._waiting[0]) <= room:
            room -= size_of(self._waiting[0])
            part.append(self._waiting.popleft())
        return part

    async def join(self) -> None:
        """Wait until none waits."""
        await self._none.wait()
