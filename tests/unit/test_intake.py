"""What was read for a shard that was given up meanwhile does not reach the inbox."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping

import pytest

from engine.ledger.nouns import Position
from engine.streams.streams import Entry, Reading
from engine.worker.inbox import Inbox, Room
from engine.worker.intake import Intake


class Read:
    """One read that is answered when a test says so."""

    def __init__(self, positions: Mapping[int, Position]) -> None:
        self.positions = dict(positions)
        self.answer: asyncio.Future[Reading] = asyncio.get_running_loop().create_future()

    def give(self, *entries: tuple[int, int]) -> None:
        """Entries by shard and milliseconds."""
        found = [Entry(shard, Position(0, ms), []) for shard, ms in entries]
        self.answer.set_result(Reading(found, {}, set()))


class HeldStreams:
    """Streams whose reads wait for the test."""

    prefix = "engine"

    def __init__(self) -> None:
        self.reads: asyncio.Queue[Read] = asyncio.Queue()
        self.last: Read | None = None

    async def read(self, positions: Mapping[int, Position], _block_ms: int) -> Reading:
        self.last = Read(positions)
        self.reads.put_nowait(self.last)
        return await self.last.answer

    async def interrupt(self) -> None:
        if self.last is not None and not self.last.answer.done():
            self.last.give()


@contextlib.asynccontextmanager
async def reading(streams: HeldStreams, inbox: Inbox) -> AsyncIterator[Intake]:
    intake = Intake(streams, inbox, 1000)
    task = asyncio.create_task(intake.run())
    try:
        yield intake
    finally:
        task.cancel()


def taken(inbox: Inbox) -> list[tuple[int, int]]:
    return [(one.entry.shard, one.entry.position.ms) for one in inbox.take(Room(1000))]


@pytest.fixture
def streams() -> HeldStreams:
    return HeldStreams()


@pytest.fixture
def inbox() -> Inbox:
    return Inbox(1000)


async def test_what_follows_the_positions_is_read(streams: HeldStreams, inbox: Inbox) -> None:
    async with reading(streams, inbox) as intake:
        await intake.start({1: Position(0, 5)})
        read = await streams.reads.get()
        assert read.positions == {1: Position(0, 5)}
        read.give((1, 6), (1, 7))
        assert (await streams.reads.get()).positions == {1: Position(0, 7)}
        assert taken(inbox) == [(1, 6), (1, 7)]


async def test_another_shard_is_read_at_once(streams: HeldStreams, inbox: Inbox) -> None:
    async with reading(streams, inbox) as intake:
        await intake.start({1: Position(0, 5)})
        await streams.reads.get()
        await intake.start({2: Position(0, 9)})
        assert (await streams.reads.get()).positions == {1: Position(0, 5), 2: Position(0, 9)}


@pytest.mark.parametrize("again", [False, True])
async def test_entries_of_a_shard_given_up_are_dropped(
    again: bool, streams: HeldStreams, inbox: Inbox
) -> None:
    """Also where it is taken again, and others read on in between."""
    async with reading(streams, inbox) as intake:
        await intake.start({1: Position(0, 5), 2: Position(0, 5)})
        read = await streams.reads.get()
        intake.stop({1})
        read.give((1, 6), (2, 6))
        if again:
            await intake.start({1: Position(0, 8)})
        after = await streams.reads.get()
        assert after.positions[2] == Position(0, 6)
        assert after.positions.get(1) == (Position(0, 8) if again else None)
        assert taken(inbox) == [(2, 6)]
