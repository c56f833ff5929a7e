"""The inbox: each stream in its order, streams in turn, and a bound on all of it."""

import asyncio

import numpy as np
import pytest

from engine.ledger.nouns import Position
from engine.store.rows import DeadLetter
from engine.streams.streams import Entry
from engine.wire.layout import TRANSFER
from engine.wire.requests import Request, UnreadableEntry
from engine.worker.bounds import DEAD_LETTER_BYTES_MAX, DEAD_LETTERS_MAX
from engine.worker.inbox import Arrival, Inbox, Room, understand
from engine.worker.open_flush import OpenFlush
from tests.bounds import CONDITION_SECONDS_MAX

ROOM = 40_000


def batch(shard: int, at: int, transfers: int = 1) -> Arrival:
    entry = Entry(shard, Position(0, at), [])
    return Arrival(entry, Request(np.zeros(transfers, TRANSFER), "bin", None, None))


def letter(shard: int, at: int, size: int = 1) -> Arrival:
    reason = UnreadableEntry("no transfer", None, None, None)
    return Arrival(Entry(shard, Position(0, at), []), unreadable=reason, size=size)


def places(taken: list[Arrival]) -> list[tuple[int, int]]:
    return [(arrival.entry.shard, arrival.entry.position.ms) for arrival in taken]


@pytest.fixture
def inbox() -> Inbox:
    return Inbox(100_000)


def test_a_stream_is_taken_in_its_order_also_after_some_of_it_was_put_back(inbox: Inbox) -> None:
    inbox.put([batch(1, at) for at in range(5)])
    taken = inbox.take(Room(3 * 2))
    assert places(taken) == [(1, 0), (1, 1), (1, 2)]
    inbox.put_back(taken[1:])
    assert places(inbox.take(Room(ROOM))) == [(1, 1), (1, 2), (1, 3), (1, 4)]
    assert not inbox


def test_streams_are_taken_from_in_turn(inbox: Inbox) -> None:
    """What is at the end of a long queue of another stream goes in at once."""
    inbox.put([batch(1, at, 8_189) for at in range(20)])
    inbox.put([batch(2, 0)])
    taken = inbox.take(Room(ROOM))
    assert (2, 0) in places(taken)
    assert len(taken) == 5


def test_a_full_entry_is_a_turn(inbox: Inbox) -> None:
    """Two streams with much to say put as much into a flush, one entry after the other."""
    inbox.put([batch(shard, at, 8_189) for shard in (1, 2) for at in range(20)])
    assert places(inbox.take(Room(ROOM))) == [(1, 0), (2, 0), (1, 1), (2, 1)]


def test_flood_of_unreadable_entries_leaves_room_for_transfers(inbox: Inbox) -> None:
    inbox.put([letter(1, at) for at in range(5 * DEAD_LETTERS_MAX)])
    inbox.put([batch(1, 99_999), *(batch(2, at) for at in range(10))])
    taken = inbox.take(Room(ROOM))
    assert sum(arrival.unreadable is not None for arrival in taken) == DEAD_LETTERS_MAX
    assert places(taken)[-10:] == [(2, at) for at in range(10)]


def test_unreadable_bytes_of_one_flush_are_bounded_and_one_entry_may_have_more(
    inbox: Inbox,
) -> None:
    half = DEAD_LETTER_BYTES_MAX // 2
    inbox.put([letter(1, 0, half), letter(1, 1, half), letter(1, 2, half)])
    inbox.put([letter(1, 3, 9 * half), letter(1, 4, 1)])
    assert [len(inbox.take(Room(ROOM))) for _ in range(4)] == [2, 1, 1, 1]


async def test_entries_and_bytes_fill_it_too(inbox: Inbox) -> None:
    """Not transfers alone: a flood of nothing would never fill it."""
    inbox.put([letter(1, at) for at in range(99_999)])
    await asyncio.wait_for(inbox.room(), CONDITION_SECONDS_MAX)
    inbox.put([letter(1, 99_999)])
    waiting = asyncio.create_task(inbox.room())
    await asyncio.sleep(0)
    assert not waiting.done()
    inbox.drop({1})
    await asyncio.wait_for(waiting, CONDITION_SECONDS_MAX)
    large = understand(Entry(1, Position(0, 0), [b"mp", bytes(512 * 1000)]), "engine")
    assert large.unreadable is not None
    assert large.weight == 1001


def test_a_flush_that_grows_takes_no_more_dead_letters_for_it() -> None:
    opened = OpenFlush(1, [], 1, 0.0)
    opened.dead_letters = [DeadLetter(1, Position(0, 1), "no transfer", [])] * 400
    opened.dead_letter_bytes = 1000
    room = opened.room_up_to(ROOM)
    assert (room.dead_letters, room.dead_letter_bytes) == (
        DEAD_LETTERS_MAX - 400,
        DEAD_LETTER_BYTES_MAX - 1000,
    )
    opened.dead_letters *= 3
    assert opened.room_up_to(ROOM).is_full
