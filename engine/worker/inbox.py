"""Entries on their way from the streams to the book: decoded, counted, in order."""

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import Collection, Sequence
from typing import Literal, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from engine.store.rows import Waiter
from engine.streams.bounds import ENTRY_READ_BYTES_MAX
from engine.streams.entries import Cut
from engine.streams.streams import Entry
from engine.wire.layout import TRANSFER, Rows
from engine.wire.requests import Request, UnreadableEntry, decode_entry
from engine.worker.bounds import (
    DEAD_LETTER_BYTES_MAX,
    DEAD_LETTERS_MAX,
    FLUSH_ROWS_MAX,
    TURN_WEIGHT,
    WEIGHT_BYTES,
)

NO_ROWS: Rows = np.empty(0, TRANSFER)

_OURS = (b"json", b"mp", b"bin", b"reply", b"request")


Kept: TypeAlias = Literal["whole", "named", "nothing"]
"""What is kept of an entry that is set aside: all, that it was there, or the log alone."""


class Arrival(msgspec.Struct, gc=False):
    """An entry as it was understood: a request with its transfers, or the reason why not."""

    entry: Entry
    request: Request | None = None
    unreadable: UnreadableEntry | None = None
    size: int = 0
    """Bytes of its fields."""
    kept: Kept = "whole"
    is_released: bool = False
    """Whether it waited for a thaw: its row in `waiting` is there, the position past it."""
    waits: Waiter | None = None
    """Where it waits for a thaw, instead of being decided."""
    frozen: npt.NDArray[np.bool_] | None = None
    """Which of its transfers match a freeze that declines; None where none does."""

    @property
    def rows(self) -> Rows:
        """Its transfers; none where it cannot be read, or waits."""
        if self.request is None or self.waits is not None:
            return NO_ROWS
        return self.request.transfers

    @property
    def weight(self) -> int:
        """How much room it takes, measured in transfers."""
        return 1 + max(len(self.rows), self.size // WEIGHT_BYTES)


def understand(entry: Entry, prefix: str) -> Arrival:
    """Decode an entry; one that cannot be read is an arrival too."""
    size = sum(map(len, entry.fields))
    if entry.cut is not None:
        return Arrival(entry, unreadable=_too_large(entry, entry.cut, prefix), size=size)
    try:
        request = decode_entry(_by_name(entry.fields), prefix=prefix)
    except UnreadableEntry as reason:
        return Arrival(entry, unreadable=reason, size=size)
    return Arrival(entry, request, size=size)


def set_aside(arrival: Arrival, reason: str) -> Arrival:
    """The same entry as one that cannot be decided; less of it is kept where even that failed."""
    if arrival.unreadable is None:
        asked = arrival.request
        why = UnreadableEntry(
            f"it cannot be decided: {reason}",
            None if asked is None else asked.reply,
            None if asked is None else asked.request,
            None if asked is None else asked.format,
        )
        return Arrival(
            arrival.entry, unreadable=why, size=arrival.size, is_released=arrival.is_released
        )
    kept: Kept = "named" if arrival.kept == "whole" else "nothing"
    return msgspec.structs.replace(arrival, kept=kept)


def released(arrival: Arrival) -> Arrival:
    """The same entry as one that waited for a thaw."""
    return msgspec.structs.replace(arrival, is_released=True)


def _unmarked(arrival: Arrival) -> Arrival:
    """The same entry before it was known whether it waits or what of it is declined."""
    if arrival.waits is None and arrival.frozen is None:
        return arrival
    return msgspec.structs.replace(arrival, waits=None, frozen=None)


def _too_large(entry: Entry, cut: Cut, prefix: str) -> UnreadableEntry:
    """The reason; and the way back, where it stands in what was kept."""
    reason = (
        f"the entry has {cut.bytes_total:,} bytes with all its fields, and may have "
        f"{ENTRY_READ_BYTES_MAX:,}; kept are the first {sum(map(len, entry.fields)):,}, and of "
        f"all names and values the SHA-256 is {cut.sha256}"
    )
    # The last value may be cut off.
    whole = entry.fields[: (len(entry.fields) - 1) // 2 * 2]
    fields = dict(zip(whole[::2], whole[1::2], strict=True))
    reply = fields.get(b"reply")
    answers = f"{prefix}:answers:".encode()
    if reply is None or not reply.startswith(answers) or len(reply) == len(answers):
        reply = None
    return UnreadableEntry(reason, reply, fields.get(b"request"), None)


def _by_name(fields: list[bytes]) -> dict[bytes, bytes]:
    """The fields by name. Redis keeps a name that is given twice; which is meant is not guessed."""
    names = fields[::2]
    by_name = dict(zip(names, fields[1::2], strict=True))
    if len(by_name) < len(names):
        twice = next((n for n in _OURS if names.count(n) > 1), None)
        if twice is not None:
            raise UnreadableEntry(f"the field {twice.decode()} stands twice", None, None, None)
    return by_name


class Room(msgspec.Struct, gc=False):
    """What still fits into a flush."""

    weight: int
    """Transfers and entries."""
    dead_letters: int = DEAD_LETTERS_MAX
    dead_letter_bytes: int = DEAD_LETTER_BYTES_MAX
    entries: int = FLUSH_ROWS_MAX

    @property
    def is_full(self) -> bool:
        """Whether nothing more fits: then the flush is as large as it gets."""
        return self.weight <= 0 or self.dead_letters <= 0 or self.dead_letter_bytes <= 0

    def fits(self, arrival: Arrival) -> bool:
        """Whether an entry fits."""
        if self.entries < 1:
            return False
        if arrival.unreadable is None:
            return 1 + len(arrival.rows) <= self.weight
        return (
            self.weight >= 1
            and self.dead_letters >= 1
            and (arrival.size <= self.dead_letter_bytes or self.dead_letters == DEAD_LETTERS_MAX)
        )

    def fill(self, arrival: Arrival) -> None:
        """It goes in."""
        self.entries -= 1
        self.weight -= 1 + len(arrival.rows)
        if arrival.unreadable is not None:
            self.dead_letters -= 1
            self.dead_letter_bytes -= arrival.size


class Inbox:
    """A bounded queue for each stream, with one wake-up for everything that a worker waits for.

    What came by one stream is taken in its order; streams are taken from in turn, so that one that
    is flooded holds up no other.

    Args:
        weight_max: There is no room while so many transfers are inside, or as many entries and
            bytes as take their room.
    """

    def __init__(self, weight_max: int) -> None:
        self._max = weight_max
        # By shard; the one whose turn it is stands first. None of them is empty.
        self._queues: OrderedDict[int, deque[Arrival]] = OrderedDict()
        self._weight = 0
        self._transfers = 0
        self._weights: Counter[int] = Counter()
        self._room = asyncio.Event()
        self._room.set()
        self.wake = asyncio.Event()

    def __len__(self) -> int:
        return sum(map(len, self._queues.values()))

    def __bool__(self) -> bool:
        return bool(self._queues)

    @property
    def transfers(self) -> int:
        """How many transfers are inside."""
        return self._transfers

    def weight_of(self, shard: int) -> int:
        """How many transfers, or what counts as many, came by the stream of a shard."""
        return self._weights[shard]

    def share_of(self, shards: int) -> int:
        """How much of it one of so many streams may have."""
        return self._max if shards == 1 else self._max // 2

    async def room(self) -> None:
        """Wait until there is room."""
        await self._room.wait()

    def put(self, arrivals: list[Arrival]) -> None:
        """Add at the end."""
        for arrival in arrivals:
            self._queues.setdefault(arrival.entry.shard, deque()).append(arrival)
            self._count(arrival, 1)
        self._note_room()
        self.wake.set()

    def put_back(self, arrivals: Sequence[Arrival]) -> None:
        """Put at the front again what was taken and is to be decided anew."""
        for arrival in map(_unmarked, reversed(arrivals)):
            self._queues.setdefault(arrival.entry.shard, deque()).appendleft(arrival)
            self._count(arrival, 1)
        self._note_room()
        self.wake.set()

    def take(self, room: Room) -> list[Arrival]:
        """Take what fits, at least one entry where there is any; streams in turn.

        Args:
            room: In the flush; what is taken fills it.
        """
        taken: list[Arrival] = []
        waiting = deque(self._queues)
        while waiting:
            shard = waiting.popleft()
            if self._take_turn(shard, room, taken):
                waiting.append(shard)
        self._note_room()
        return taken

    def _take_turn(self, shard: int, room: Room, taken: list[Arrival]) -> bool:
        """One stream's turn; returns whether it may have another in the same flush."""
        queue = self._queues[shard]
        turn = TURN_WEIGHT
        while queue and turn > 0:
            arrival = queue[0]
            if taken and not room.fits(arrival):
                self._queues.move_to_end(shard)
                return False
            taken.append(queue.popleft())
            room.fill(arrival)
            self._count(arrival, -1)
            turn -= arrival.weight
        if not queue:
            del self._queues[shard]
            return False
        self._queues.move_to_end(shard)
        return room.weight > 0

    def drop(self, shards: Collection[int]) -> None:
        """Take out what came by the streams of some shards: another worker decides it."""
        for shard in shards:
            for arrival in self._queues.pop(shard, ()):
                self._count(arrival, -1)
        self._note_room()

    def _count(self, arrival: Arrival, sign: int) -> None:
        self._weight += sign * arrival.weight
        self._weights[arrival.entry.shard] += sign * arrival.weight
        self._transfers += sign * len(arrival.rows)

    def _note_room(self) -> None:
        if self._weight < self._max:
            self._room.set()
        else:
            self._room.clear()
