"""What waits for a thaw: which entries wait, and in which order they are decided after it.

Theory of operation
-------------------
What is frozen is read with owners and positions (`FreezeMark`), so that memory always rests on one
snapshot. Every entry that is taken from the inbox passes `park_entries` first. One that matches
what is frozen, or names an id that waits from its stream, waits whole: it goes into the flush as a
row of `waiting` instead of its transfers, and the position moves past it. Here stays what is needed
to know which later entries wait behind it: its ids, a digest, its place.

    state       what there is of it                          what comes next
    ---------   ------------------------------------------   --------------------------------------
    parked      an arrival in a flush, marked `waits`        waiting: its flush is committed
    waiting     a row of `waiting`                           releasing: its freeze has ended
    releasing   an arrival in the inbox again, from there    released: its flush is committed; or
                                                             waiting still, for another freeze
    released    a row of `released`                          -

A stream *stands still*, that is, is not read, where its shard is frozen, while entries of it are
released (they come before all that it has), and where no more may wait.

`_kept` is what is committed, `_shards` the same with what is under way; a redo goes back to the
first.
"""

from collections.abc import Callable, Collection, Sequence
from typing import Final

import msgspec

from engine.book.book import Book
from engine.ledger.freezes import FreezeMark
from engine.ledger.nouns import Position
from engine.store.rows import Flush, Waiter
from engine.store.worker_store import WorkerStore
from engine.worker.freeze_matches import FreezeMatches
from engine.worker.inbox import Arrival
from engine.worker.waiting_shard import Order, WaitingShard, waiter_of

RELEASED_ENTRIES_MAX: Final = 1_000
RELEASED_BYTES_MAX: Final = 4 * 2**20
"""What of a shard is read at once of what waited."""

_FIRST: Final[Order] = (Position(-1), Position(-1))


class WaitingRoom:
    """What is frozen, and what of a worker's shards waits for it.

    Args:
        store: The ledger.
        on_standing: Called with shards whose streams stand still from now on: nothing more of them
            may come from the inbox.
    """

    def __init__(self, store: WorkerStore, on_standing: Callable[[Collection[int]], None]) -> None:
        self._store = store
        self._on_standing = on_standing
        self.mark = FreezeMark()
        self._matches = FreezeMatches(store, (), (), 1)
        self._kept: dict[int, dict[Position, Waiter]] = {}
        self._shards: dict[int, WaitingShard] = {}
        self._dirty: set[int] = set()
        self._cursors: dict[int, Order] = {}
        self._full: set[int] = set()
        self.standing: set[int] = set()
        """Shards whose streams are not read."""

    @property
    def is_needed(self) -> bool:
        """Whether anything is frozen or waits: the one branch where nothing is."""
        return bool(self._matches.freezes) or bool(self._kept)

    @property
    def full(self) -> set[int]:
        """Shards of which no more may wait."""
        return set(self._full)

    # What it rests on.

    async def adopt(self, mark: FreezeMark, owned: Collection[int], shard_count: int) -> None:
        """Rest on a snapshot: nothing of the worker's is under way, and its shards are these.

        Args:
            mark: What is frozen in it.
            owned: The worker's shards; of those that it did not have what waits is loaded.
            shard_count: Of the ledger.
        """
        self._kept = {shard: kept for shard, kept in self._kept.items() if shard in owned}
        new = [shard for shard in owned if shard not in self._shards]
        if mark.newest and new:
            for waiter in await self._store.waiting.load_waiters(new):
                self._kept.setdefault(waiter.shard, {})[waiter.position] = waiter
        if mark.newest != self.mark.newest or (new and self._kept):
            await self._load_freezes(mark, shard_count)
            self._full.clear()
        for shard in [shard for shard in self._shards if shard not in owned]:
            del self._shards[shard]
        for shard in {*new, *self._dirty} & {*owned}:
            self._shards[shard] = WaitingShard(self._kept.get(shard, {}).values())
        self._dirty.clear()
        self._cursors.clear()
        self._full &= {*owned}
        # Those that stood still go on once it is their turn: see `Standstill`.
        self.standing = {
            shard for shard in owned if shard in self.standing or not self.may_go_on(shard)
        }
        if self.standing:
            self._on_standing(self.standing)

    async def _load_freezes(self, mark: FreezeMark, shard_count: int) -> None:
        flushes = [waiter.flush for kept in self._kept.values() for waiter in kept.values()]
        since = min(flushes, default=mark.newest)
        found = await self._store.waiting.load_freezes(mark.numbers, since)
        self._matches = FreezeMatches(
            self._store,
            [freeze for freeze in found if freeze.number in mark.numbers],
            [freeze for freeze in found if freeze.number not in mark.numbers],
            shard_count,
        )
        self.mark = mark

    def commit(self, flush: Flush) -> None:
        """A flush is committed."""
        for waiter in flush.waiting:
            waiter.flush, waiter.fields = flush.number, ()
            self._kept.setdefault(waiter.shard, {})[waiter.position] = waiter
        for shard, position in flush.released:
            del self._kept[shard][position]
            if not self._kept[shard]:
                del self._kept[shard]

    def is_frozen(self, shard: int) -> bool:
        """Whether the shard itself is, so that its stream is not read."""
        return shard in self._matches.shards

    # Who waits.

    async def park_entries(self, arrivals: Sequence[Arrival], book: Book) -> list[Arrival]:
        """Mark those of some entries, in order, that wait or are declined.

        Left out are those that wait already and go on waiting, and those of streams that stand
        still, which are read again.

        Args:
            arrivals: As taken from the inbox.
            book: It knows what is under way.
        """
        found = await self._matches.find_matches(arrivals, book, self._waited_since)
        kept = []
        for place, arrival in enumerate(arrivals):
            freeze, declined = found.get(place, (0, None))
            here = self._shards.get(arrival.entry.shard)
            if arrival.is_released:
                waiter = None if here is None else here.waiters.get(arrival.entry.position)
                if here is None or waiter is None:
                    continue
                freeze = freeze or here.freeze_of_named(arrival.rows, waiter.order)
                if freeze:
                    waiter.freeze = freeze
                    continue
                here.remove(waiter)
                self._dirty.add(arrival.entry.shard)
            elif arrival.entry.shard in self.standing:
                continue
            elif here is not None and arrival.request is not None:
                freeze = freeze or here.freeze_of_named(arrival.rows)
                if freeze:
                    waiter = waiter_of(arrival, freeze, here)
                    if not (is_below(arrival) or here.has_room(waiter)):
                        self._stand_full(arrival.entry.shard)
                        continue
                    here.add(waiter)
                    self._dirty.add(arrival.entry.shard)
                    kept.append(msgspec.structs.replace(arrival, waits=waiter))
                    continue
            kept.append(
                arrival if declined is None else msgspec.structs.replace(arrival, frozen=declined)
            )
        return kept

    def _waited_since(self, arrival: Arrival) -> int:
        """The number of the flush since which an entry has waited; 0 where it did not."""
        here = self._shards.get(arrival.entry.shard)
        if here is None or not arrival.is_released:
            return 0
        waiter = here.waiters.get(arrival.entry.position)
        return 0 if waiter is None else waiter.flush

    def _stand_full(self, shard: int) -> None:
        self._full.add(shard)
        self.standing.add(shard)
        self._on_standing({shard})

    # Who waits no more.

    def next_released(self, shard: int) -> list[Waiter]:
        """The next entries of a shard whose freeze has ended, in order; each is given once."""
        if self.is_frozen(shard):
            return []
        page = self._next_of(shard)
        if page:
            self._cursors[shard] = page[-1].order
        return page

    def _next_of(self, shard: int) -> list[Waiter]:
        here = self._shards.get(shard)
        if here is None or not here.waiters:
            return []
        after = self._cursors.get(shard, _FIRST)
        ended = [
            waiter
            for waiter in here.waiters.values()
            if waiter.freeze not in self._matches.freezes and waiter.order > after
        ]
        ended.sort(key=lambda waiter: waiter.order)
        page: list[Waiter] = []
        size = 0
        for waiter in ended[:RELEASED_ENTRIES_MAX]:
            size += waiter.size
            if page and size > RELEASED_BYTES_MAX:
                break
            page.append(waiter)
        return page

    def may_go_on(self, shard: int) -> bool:
        """Whether nothing keeps the stream of a shard from being read any more."""
        return not (shard in self._full or self.is_frozen(shard) or self._next_of(shard))

    def go_on(self, shard: int) -> None:
        """The stream of a shard is read on."""
        self.standing.discard(shard)


def is_below(arrival: Arrival) -> bool:
    """Whether the position has passed an entry: it is deleted once it is decided or waits."""
    return arrival.entry.below or arrival.entry.ended is not None
