"""Backpressure: how long the streams are, and whether another entry may be added."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from engine.errors import BackpressureError
from engine.ledger.nouns import stream_name
from engine.patience import Patience
from engine.settings import WhenFull
from engine.streams.connection import pack_command

if TYPE_CHECKING:
    from engine.streams.cluster_connection import AnyConnection
FRESH_SECONDS: Final = 0.05
"""How old the known length of a stream may be."""

WAIT_SECONDS: Final = 0.05
"""How long to wait before a stream that is full is looked at again."""


class Backpressure:
    """Lets entries into streams whose backlog is below a maximum.

    Args:
        prefix: Of the names of the streams.
        shard_count: Of the ledger.
        entries_max: Most entries that may wait in one stream.
        when_full: Whether to refuse at once, or when the time limit has passed.
        patience: The clock of time limits.
    """

    def __init__(
        self,
        prefix: str,
        shard_count: int,
        entries_max: int,
        when_full: WhenFull,
        patience: Patience,
    ) -> None:
        self.connection: Callable[[], AnyConnection | None] = lambda: None
        """Set by whoever keeps the connection."""
        self.waits: Final = when_full == "wait"
        self._max = entries_max
        self._patience = patience
        self._loop = asyncio.get_running_loop()
        self._commands = [
            pack_command(b"XLEN", stream_name(prefix, shard).encode())
            for shard in range(shard_count)
        ]
        self._lengths = [0] * shard_count
        self._known_at = [float("-inf")] * shard_count
        self._added = [0] * shard_count

    def check(self, shard: int, then: Callable[[bool], None]) -> None:
        """Call `then` with whether an entry may be added, at once where that is known.

        Without a connection it may: it will be sent when there is one.
        """
        length, added = self._lengths[shard], self._added[shard]
        if self._loop.time() - self._known_at[shard] <= FRESH_SECONDS:
            is_open = length + added < self._max
            if is_open or not added:  # Else some of our own may be gone by now.
                then(is_open)
                return
        self._ask(shard, then)

    async def admit(self, shard: int, deadline: float) -> None:
        """Return once an entry may be added.

        Raises:
            BackpressureError: The stream is full, or stayed so until `deadline`.
        """
        while True:
            answer: asyncio.Future[bool] = self._loop.create_future()
            self.check(shard, partial(_resolve, answer))
            if await answer:
                return
            if not self.waits or self._patience.time() + WAIT_SECONDS > deadline:
                raise self.full(shard)
            await asyncio.sleep(WAIT_SECONDS)

    def add(self, shard: int) -> None:
        """Count an entry that is being added; ask for the length along with it in time."""
        self._added[shard] += 1
        if self._loop.time() - self._known_at[shard] > FRESH_SECONDS / 2:
            self._ask(shard, None)

    def full(self, shard: int) -> BackpressureError:
        """What to say where an entry was not let in."""
        return BackpressureError(
            f"shard {shard} has a backlog of {self._lengths[shard]} entries and at most "
            f"{self._max} may wait; nothing was sent: try again later, or start more workers"
        )

    async def backlog(self) -> dict[int, int]:
        """By shard, how many entries wait in its stream."""
        answers: list[asyncio.Future[bool]] = []
        for shard in range(len(self._commands)):
            answer: asyncio.Future[bool] = self._loop.create_future()
            self._ask(shard, partial(_resolve, answer))
            answers.append(answer)
        await asyncio.gather(*answers)
        return dict(enumerate(self._lengths))

    def _ask(self, shard: int, then: Callable[[bool], None] | None) -> None:
        def on_reply(reply: Any) -> None:
            if isinstance(reply, int):
                self._lengths[shard] = reply
                self._known_at[shard] = self._loop.time()
                self._added[shard] = 0
            if then is not None:
                then(not isinstance(reply, int) or reply < self._max)

        connection = self.connection()
        if connection is None:
            on_reply(None)
        else:
            connection.send(self._commands[shard], on_reply)


def _resolve(answer: "asyncio.Future[bool]", is_open: bool) -> None:  # noqa: FBT001 - as `check` says
    if not answer.done():
        answer.set_result(is_open)
