"""Which of some entries match what is frozen: of what is known of their ids, and of their holds."""

from collections.abc import Callable, Collection, Mapping, Sequence

from engine.book.book import Book
from engine.deciding.batch import RESOLVING, Ints, Mask
from engine.deciding.frozen import FrozenColumns
from engine.ledger.freezes import Freeze
from engine.ledger.nouns import ID_ZERO, Transfer
from engine.ledger.outcomes import Outcome
from engine.store.worker_store import WorkerStore
from engine.worker.inbox import Arrival


class FreezeMatches:
    """What is frozen, laid out for look-ups.

    Args:
        store: The ledger, which knows ids and holds.
        freezes: In force.
        ended: Those whose thaw declines what waited.
        shard_count: Of the ledger.
    """

    def __init__(
        self,
        store: WorkerStore,
        freezes: Collection[Freeze],
        ended: Collection[Freeze],
        shard_count: int,
    ) -> None:
        self._store = store
        self.freezes = {freeze.number: freeze for freeze in freezes}
        self._ended = ended
        self._shard_count = shard_count
        waits = [freeze for freeze in freezes if not freeze.declines]
        declines = [freeze for freeze in freezes if freeze.declines]
        self.shards = {freeze.what for freeze in waits if freeze.kind == "shard"}
        """Whose streams are not read."""
        self._waiting = FrozenColumns(waits, shard_count)
        self._declining = FrozenColumns(declines, shard_count)

    async def find_matches(
        self,
        arrivals: Sequence[Arrival],
        book: Book,
        waited_since: Callable[[Arrival], int],
    ) -> dict[int, tuple[int, Mask | None]]:
        """By place of an entry the freeze that it waits for, or 0, and what is declined of it.

        Args:
            arrivals: The entries.
            book: It knows what is under way.
            waited_since: The number of the flush since which an entry has waited, 0 if it did not.
        """
        if not (self.freezes or self._ended):
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
            declined = self._find_declined(arrival, holds, waited_since(arrival))
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

    def _find_declined(self, arrival: Arrival, holds: Mapping[bytes, Transfer], since: int) -> Mask:
        """Which match a freeze that declines, or one whose thaw declined what waited then."""
        declined: Mask = self._declining.find_freezes(arrival.rows, holds) != 0
        for freeze in self._ended if since else ():
            if freeze.thaw is not None and since < freeze.thaw:
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


def _ids_of(arrival: Arrival, column: str, mask: Mask) -> list[bytes]:
    ids: list[bytes] = arrival.rows[column][mask].tolist()
    return ids
