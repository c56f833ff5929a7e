"""Reading the streams of the shards that a worker owns, which come and go, into its inbox.

A stream that cannot be read leaves the others alone: its shard is set aside, and read on once it
is mended. An entry that is too large to be read with others is read by itself meanwhile.
"""

import asyncio
import contextlib
from collections.abc import Collection, Mapping
from typing import Final

from engine.errors import EngineError
from engine.ledger.nouns import Position
from engine.streams.refusals import LostError
from engine.streams.streams import Entry, Streams
from engine.worker.inbox import Inbox, understand
from engine.worker.unread import UnreadShards

PIECE: Final = 64
"""Entries that go into the inbox at once, so that it stays near its bound."""

FULL_BLOCK_MS: Final = 20
"""How long a read of the others waits while a stream has its share of the inbox."""


class _Place:
    """How far a stream is read; another one once its shard was given up and taken again."""

    __slots__ = ("is_apart", "position")

    def __init__(self, position: Position) -> None:
        self.position = position
        self.is_apart = False
        """Whether its next entry is being read by itself."""


class Intake:
    """Reads what follows the positions of some shards.

    Args:
        streams: Where from.
        inbox: Where to.
        block_ms: How long a read waits for entries.
        unread: Where shards are noted that cannot be read.
    """

    def __init__(
        self, streams: Streams, inbox: Inbox, block_ms: int, unread: UnreadShards | None = None
    ) -> None:
        self._streams = streams
        self._inbox = inbox
        self._block_ms = block_ms
        self._unread = unread if unread is not None else UnreadShards()
        self._places: dict[int, _Place] = {}
        self._aside: set[int] = set()
        self._standing: set[int] = set()
        self._apart: asyncio.Queue[tuple[int, _Place]] = asyncio.Queue()
        self._begun = asyncio.Event()
        self._open = asyncio.Event()
        self._open.set()
        self._answered: asyncio.Event | None = None
        self.troubled = asyncio.Event()
        """Set when a shard is set aside."""

    @property
    def shards(self) -> set[int]:
        """The shards that are read, stand still, or are set aside to be read again."""
        return self._places.keys() | self._aside | self._standing

    @property
    def aside(self) -> set[int]:
        """The shards that are set aside."""
        return set(self._aside)

    @property
    def standing(self) -> set[int]:
        """The shards that stand still: they are not read, and not looked at."""
        return set(self._standing)

    @property
    def positions(self) -> dict[int, Position]:
        """How far each shard is read that is not set aside."""
        return {shard: place.position for shard, place in self._places.items()}

    async def start(self, positions: Mapping[int, Position]) -> None:
        """Read these shards too, at once: also where a read of the others is waiting."""
        if not positions:
            return
        self._places |= {shard: _Place(position) for shard, position in positions.items()}
        for shard in positions:
            self._aside.discard(shard)
            self._unread.end(shard)
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
            self._aside.discard(shard)
            self._standing.discard(shard)
        self._unread.forget(shards)
        if not self._places:
            self._begun.clear()

    def stand_still(self, shards: Collection[int]) -> None:
        """Read no more of these, whatever is wrong with them, until they are started anew."""
        self.stop(shards)
        self._standing.update(shards)

    def forget_all_but(self, shards: Collection[int]) -> None:
        """These are this worker's, and no others that were set aside before."""
        self._aside.intersection_update(shards)
        self._standing.intersection_update(shards)
        self._unread.keep(shards)

    def set_aside(self, shard: int, reason: str) -> None:
        """Read no more of a shard until it is started again."""
        if shard in self._standing:
            return
        if shard not in self._aside:
            self.troubled.set()
        self._places.pop(shard, None)
        self._aside.add(shard)
        self._unread.add(shard, reason)
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
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._read())
            tasks.create_task(self._read_apart())

    async def _read(self) -> None:
        while True:
            await self._begun.wait()
            share = self._inbox.share_of(len(self._places))
            places = {
                shard: place
                for shard, place in self._places.items()
                if not place.is_apart and self._inbox.weight_of(shard) < share
            }
            if not places:
                await asyncio.sleep(FULL_BLOCK_MS / 1000)
                continue
            is_all = len(places) == len(self._places)
            block_ms = self._block_ms if is_all else min(self._block_ms, FULL_BLOCK_MS)
            self._answered = answered = asyncio.Event()
            try:
                reading = await self._streams.read(
                    {shard: place.position for shard, place in places.items()}, block_ms
                )
            finally:
                answered.set()
            for start in range(0, len(reading.entries), PIECE):
                await self._put(reading.entries[start : start + PIECE], places)
                # Others get their turn.
                await asyncio.sleep(0)
            for shard, fault in reading.faults.items():
                if self._places.get(shard) is places[shard]:
                    self.set_aside(shard, str(fault))
            for shard in reading.large:
                if self._places.get(shard) is places[shard]:
                    places[shard].is_apart = True
                    self._apart.put_nowait((shard, places[shard]))

    async def _put(self, entries: list[Entry], places: Mapping[int, _Place]) -> None:
        await self._inbox.room()
        await self._open.wait()
        piece = [e for e in entries if self._places.get(e.shard) is places[e.shard]]
        for entry in piece:
            places[entry.shard].position = entry.position
        if piece:
            self._inbox.put([understand(entry, self._streams.prefix) for entry in piece])

    async def _read_apart(self) -> None:
        """Read large entries by themselves, one after the other, while others are read."""
        while True:
            shard, place = await self._apart.get()
            try:
                entry = await self._streams.recovery.read_next(shard, place.position)
            except LostError:
                raise
            except EngineError as error:
                if self._places.get(shard) is place:
                    self.set_aside(shard, str(error))
                continue
            if entry is not None:
                await self._put([entry], {shard: place})
            if entry is not None and entry.cut is not None:
                # Where there is one there may be more.
                self._apart.put_nowait((shard, place))
            else:
                place.is_apart = False
