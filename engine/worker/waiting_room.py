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

import hashlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Final

import msgspec

from engine.book.book import Book
from engine.deciding.batch import RESOLVING, Ints, Mask
from engine.deciding.frozen import FrozenColumns
from engine.ledger.freezes import (
    WAITING_BYTES_MAX,
    WAITING_TRANSFERS_MAX,
    Freeze,
    FreezeMark,
)
from engine.ledger.nouns import ID_ZERO, Position, Transfer
from engine.ledger.outcomes import Outcome
from engine.store.rows import Flush, Waiter
from engine.store.waiting_rows import payload_of
from engine.store.worker_store import WorkerStore
from engine.wire.layout import Rows
from engine.worker.inbox import Arrival

RELEASED_ENTRIES_MAX: Final = 1_000
RELEASED_BYTES_MAX: Final = 4 * 2**20
"""What of a shard is read at once of what waited."""

Order = tuple[Position, Position]
"""The place of an entry that waits among those of its stream."""

_FIRST: Final[Order] = (Position(-1), Position(-1))


class _Shard:
    """The entries of one stream that wait, with what is under way."""

    def __init__(self, waiters: Iterable[Waiter]) -> None:
        self.waiters: dict[Position, Waiter] = {}
        self.transfers = 0
        self.size = 0
        self._holders: dict[bytes, dict[Order, Waiter]] = {}
        self._originals: dict[bytes, Waiter] = {}
        for waiter in waiters:
            self.add(waiter)

    def add(self, waiter: Waiter) -> None:
        self.waiters[waiter.position] = waiter
        self.transfers += waiter.transfers
        self.size += waiter.size
        for transfer_id in waiter.ids:
            self._holders.setdefault(transfer_id, {})[waiter.order] = waiter
        if waiter.original is None:
            self._originals.setdefault(waiter.digest, waiter)

    def remove(self, waiter: Waiter) -> None:
        del self.waiters[waiter.position]
        self.transfers -= waiter.transfers
        self.size -= waiter.size
        for transfer_id in set(waiter.ids):
            holders = self._holders[transfer_id]
            del holders[waiter.order]
            if not holders:
                del self._holders[transfer_id]
        if self._originals.get(waiter.digest) is waiter:
            del self._originals[waiter.digest]

    def original_of(self, digest: bytes) -> Position | None:
        """The entry with the same transfers that waits, if there is one."""
        found = self._originals.get(digest)
        return None if found is None else found.position

    def freeze_of_named(self, rows: Rows, before: Order | None = None) -> int:
        """The freeze for which an entry waits that holds an id which these name; 0 if none does."""
        if not self._holders:
            return 0
        for column in ("id", "pending_id"):
            for transfer_id in rows[column].tolist():
                for order, waiter in self._holders.get(transfer_id, _NOTHING).items():
                    if transfer_id != ID_ZERO and (before is None or order < before):
                        return waiter.freeze
        return 0

    def has_room(self, waiter: Waiter) -> bool:
        return (
            self.transfers + waiter.transfers <= WAITING_TRANSFERS_MAX
            and self.size + waiter.size <= WAITING_BYTES_MAX
        )


_NOTHING: Final[Mapping[Order, Waiter]] = {}


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
        self._shard_count = 1
        self._frozen_shards: set[bytes | int] = set()
        self.mark = FreezeMark()
        self._freezes: dict[int, Freeze] = {}
        """In force, by number."""
        self._ended: list[Freeze] = []
        """Those that have ended and decline what waited."""
        self._waiting = self._declining = FrozenColumns((), 1)
        self._kept: dict[int, dict[Position, Waiter]] = {}
        self._shards: dict[int, _Shard] = {}
        self._dirty: set[int] = set()
        self._cursors: dict[int, Order] = {}
        self._full: set[int] = set()
        self.standing: set[int] = set()
        """Shards whose streams are not read."""

    @property
    def is_needed(self) -> bool:
        """Whether anything is frozen or waits: the one branch where nothing is."""
        return bool(self._freezes) or bool(self._kept)

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
            self._shards[shard] = _Shard(self._kept.get(shard, {}).values())
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
        self._freezes = {freeze.number: freeze for freeze in found if freeze.number in mark.numbers}
        self._ended = [freeze for freeze in found if freeze.number not in mark.numbers]
        waits = [freeze for freeze in self._freezes.values() if not freeze.declines]
        declines = [freeze for freeze in self._freezes.values() if freeze.declines]
        self._frozen_shards = {freeze.what for freeze in waits if freeze.kind == "shard"}
        self._shard_count = shard_count
        self._waiting = FrozenColumns(waits, shard_count)
        self._declining = FrozenColumns(declines, shard_count)
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
        return shard in self._frozen_shards

    # Who waits.

    async def park_entries(self, arrivals: Sequence[Arrival], book: Book) -> list[Arrival]:
        """Mark those of some entries, in order, that wait or are declined.

        Left out are those that wait already and go on waiting, and those of streams that stand
        still, which are read again.

        Args:
            arrivals: As taken from the inbox.
            book: It knows what is under way.
        """
        found = await self._find_matches(arrivals, book)
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
                    waiter = _waiter_of(arrival, freeze, here)
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

    def _stand_full(self, shard: int) -> None:
        self._full.add(shard)
        self.standing.add(shard)
        self._on_standing({shard})

    async def _find_matches(
        self, arrivals: Sequence[Arrival], book: Book
    ) -> dict[int, tuple[int, Mask | None]]:
        """By place of an entry the freeze that it waits for, or 0, and what is declined of it."""
        if not (self._freezes or self._ended):
            return {}
        readable = [(place, a) for place, a in enumerate(arrivals) if len(a.rows)]
        resolving = {
            hold_id
            for _, arrival in readable
            for hold_id in arrival.rows["pending_id"][
                arrival.rows["flags"] & RESOLVING != 0
            ].tolist()
        }
        holds = await self._find_created(resolving, book)
        waits: dict[int, tuple[int, Mask | None]] = {}
        matched: list[tuple[int, Arrival, Ints]] = []
        for place, arrival in readable:
            numbers = self._waiting.find_freezes(arrival.rows, holds)
            if numbers.any():
                matched.append((place, arrival, numbers))
            declined = self._find_declined(arrival, holds)
            if declined.any():
                waits[place] = (0, declined)
        asked = {
            transfer_id
            for _, arrival, numbers in matched
            for transfer_id in _ids_of(arrival, "id", numbers != 0)
        }
        known = await self._find_known(asked, book)
        for place, arrival, numbers in matched:
            ids = arrival.rows["id"].tolist()
            freeze = next(
                (int(n) for n, id_ in zip(numbers, ids, strict=True) if n and id_ not in known), 0
            )
            waits[place] = (freeze, waits.get(place, (0, None))[1])
        return waits

    def _find_declined(self, arrival: Arrival, holds: Mapping[bytes, Transfer]) -> Mask:
        """Which match a freeze that declines, or one whose thaw declined what waited then."""
        declined: Mask = self._declining.find_freezes(arrival.rows, holds) != 0
        waiter = None
        if arrival.is_released and self._ended:
            waiter = self._shards[arrival.entry.shard].waiters.get(arrival.entry.position)
        if waiter is not None:
            for freeze in self._ended:
                if freeze.thaw is not None and waiter.flush < freeze.thaw:
                    columns = FrozenColumns([freeze], self._shard_count)
                    declined |= columns.find_freezes(arrival.rows, holds) != 0
        return declined

    async def _find_created(self, ids: set[bytes], book: Book) -> dict[bytes, Transfer]:
        ids.discard(ID_ZERO)
        if not ids:
            return {}
        lately = book.uncommitted.find_records(ids)
        records = await self._store.load_records(list(ids - lately.keys()))
        return {
            record.transfer.id: record.transfer
            for record in [*lately.values(), *records]
            if record.outcome is Outcome.created
        }

    async def _find_known(self, ids: set[bytes], book: Book) -> set[bytes]:
        if not ids:
            return set()
        lately = book.uncommitted.find_records(ids)
        records = await self._store.load_records(list(ids - lately.keys()))
        return {*lately, *(record.transfer.id for record in records)}

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
            if waiter.freeze not in self._freezes and waiter.order > after
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


def _ids_of(arrival: Arrival, column: str, mask: Mask) -> list[bytes]:
    ids: list[bytes] = arrival.rows[column][mask].tolist()
    return ids


def is_below(arrival: Arrival) -> bool:
    """Whether the position has passed an entry: it is deleted once it is decided or waits."""
    return arrival.entry.below or arrival.entry.ended is not None


def _waiter_of(arrival: Arrival, freeze: int, here: _Shard) -> Waiter:
    fields = arrival.entry.fields
    payload = payload_of(fields)
    digest = hashlib.sha256(b"\0".join(payload)).digest()
    original = here.original_of(digest)
    if original is not None:
        fields = [
            word
            for name, value in zip(fields[::2], fields[1::2], strict=True)
            if name in {b"reply", b"request"}
            for word in (name, value)
        ]
    return Waiter(
        arrival.entry.shard,
        arrival.entry.position,
        original,
        freeze,
        0,
        [] if original is not None else arrival.rows["id"].tolist(),
        sum(map(len, fields)),
        digest,
        fields,
    )
