"""Entries on their way from the streams to the book: decoded, counted, in order."""

import asyncio
from collections import Counter, deque
from collections.abc import Collection, Sequence

import msgspec
import numpy as np

from engine.streams.bounds import ENTRY_READ_BYTES_MAX
from engine.streams.entries import Cut
from engine.streams.streams import Entry
from engine.wire.layout import TRANSFER, Rows
from engine.wire.requests import Request, UnreadableEntry, decode_entry

NO_ROWS: Rows = np.empty(0, TRANSFER)

UNREADABLE_WEIGHT = 64
"""An entry without transfers counts as so many: to bury it costs about as much."""

_OURS = (b"json", b"mp", b"bin", b"reply", b"request")


class Arrival(msgspec.Struct, gc=False):
    """An entry as it was understood: a request with its transfers, or the reason why not."""

    entry: Entry
    request: Request | None = None
    unreadable: UnreadableEntry | None = None

    @property
    def rows(self) -> Rows:
        """Its transfers; none where it cannot be read."""
        return NO_ROWS if self.request is None else self.request.transfers


def understand(entry: Entry, prefix: str) -> Arrival:
    """Decode an entry; one that cannot be read is an arrival too."""
    if entry.cut is not None:
        return Arrival(entry, unreadable=_too_large(entry, entry.cut, prefix))
    try:
        request = decode_entry(_by_name(entry.fields), prefix=prefix)
    except UnreadableEntry as reason:
        return Arrival(entry, unreadable=reason)
    return Arrival(entry, request)


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


def _weight(arrival: Arrival) -> int:
    return len(arrival.rows) or UNREADABLE_WEIGHT


class Inbox:
    """A bounded queue with one wake-up for everything that a worker waits for.

    Args:
        transfers_max: There is no room while so many are inside.
    """

    def __init__(self, transfers_max: int) -> None:
        self._max = transfers_max
        self._arrivals: deque[Arrival] = deque()
        self._transfers = 0
        self._weights: Counter[int] = Counter()
        self._room = asyncio.Event()
        self._room.set()
        self.wake = asyncio.Event()

    def __len__(self) -> int:
        return len(self._arrivals)

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
        self._arrivals.extend(arrivals)
        self._weigh(arrivals)
        self._transfers += sum(len(arrival.rows) for arrival in arrivals)
        if self._transfers >= self._max:
            self._room.clear()
        self.wake.set()

    def put_back(self, arrivals: Sequence[Arrival]) -> None:
        """Put at the front again what was taken and is to be decided anew."""
        self._arrivals.extendleft(reversed(arrivals))
        self._weigh(arrivals)
        self._transfers += sum(len(arrival.rows) for arrival in arrivals)
        self.wake.set()

    def take(self, transfers_max: int) -> list[Arrival]:
        """Take from the front as many as fit, at least one where there is any."""
        taken: list[Arrival] = []
        count = 0
        while self._arrivals and (
            not taken or count + len(self._arrivals[0].rows) <= transfers_max
        ):
            arrival = self._arrivals.popleft()
            count += len(arrival.rows)
            self._weights[arrival.entry.shard] -= _weight(arrival)
            taken.append(arrival)
        self._transfers -= count
        if self._transfers < self._max:
            self._room.set()
        return taken

    def _weigh(self, arrivals: Sequence[Arrival]) -> None:
        for arrival in arrivals:
            self._weights[arrival.entry.shard] += _weight(arrival)

    def drop(self, shards: Collection[int]) -> None:
        """Take out what came by the streams of some shards: another worker decides it."""
        kept = [arrival for arrival in self._arrivals if arrival.entry.shard not in shards]
        self._arrivals = deque(kept)
        self._weights.clear()
        self._weigh(kept)
        self._transfers = sum(len(arrival.rows) for arrival in kept)
        if self._transfers < self._max:
            self._room.set()
