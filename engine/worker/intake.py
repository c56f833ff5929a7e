"""Reading the streams of the shards that a worker owns, which come and go, into its inbox."""

import asyncio
import contextlib
from collections.abc import Collection, Mapping
from typing import Final

from engine.ledger.nouns import Position
from engine.streams.streams import Streams
from engine.worker.inbox import Inbox, understand

PIECE: Final = 64
"""Entries that go into the inbox at once, so that it stays near its bound."""


class _Place:
    """How far a stream is read; another one once its shard was given up and taken again."""

    __slots__ = ("position",)

    def __init__(self, position: Position) -> None:
        self.position = position


class Intake:
    """Reads what follows the positions of some shards.

    Args:
        streams: Where from.
        inbox: Where to.
        block_ms: How long a read waits for entries.
    """

    def __init__(self, streams: Streams, inbox: Inbox, block_ms: int) -> None:
        self._streams = streams
        self._inbox = inbox
        self._block_ms = block_ms
        self._places: dict[int, _Place] = {}
        self._begun = asyncio.Event()
        self._open = asyncio.Event()
        self._open.set()
        self._answered: asyncio.Event | None = None

    @property
    def shards(self) -> set[int]:
        """The shards that are read."""
        return set(self._places)

    async def start(self, positions: Mapping[int, Position]) -> None:
        """Read these shards too, at once: also where a read of the others is waiting."""
        if not positions:
            return
        self._places |= {shard: _Place(position) for shard, position in positions.items()}
        self._begun.set()
        # The read under way, if there is one, does not know of them.
        answered = self._answered
        while answered is not None and not answered.is_set():
            await self._streams.interrupt()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(answered.wait(), 0.01)

    def stop(self, shards: Collection[int]) -> None:
        """Nothing more of these shards reaches the inbox."""
        for shard in shards:
            self._places.pop(shard, None)
        if not self._places:
            self._begun.clear()

    def hold(self) -> None:
        """Nothing more reaches the inbox until `go_on`."""
        self._open.clear()

    def go_on(self) -> None:
        """End a `hold`."""
        self._open.set()

    async def run(self) -> None:
        """Read, for ever. Raises TryAgainError when Redis is out of reach."""
        while True:
            await self._begun.wait()
            places = dict(self._places)
            self._answered = answered = asyncio.Event()
            try:
                entries = await self._streams.read(
                    {shard: place.position for shard, place in places.items()}, self._block_ms
                )
            finally:
                answered.set()
            for start in range(0, len(entries), PIECE):
                await self._inbox.room()
                await self._open.wait()
                piece = [
                    entry
                    for entry in entries[start : start + PIECE]
                    if self._places.get(entry.shard) is places[entry.shard]
                ]
                for entry in piece:
                    places[entry.shard].position = entry.position
                if piece:
                    self._inbox.put([understand(e, self._streams.prefix) for e in piece])
                # Others get their turn.
                await asyncio.sleep(0)
