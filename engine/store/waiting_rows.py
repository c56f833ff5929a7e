"""Entries that wait for a thaw: written in the flush that moves the position past them, and read.

Of all entries of a flush the ids, and the fields, go in one array each, with the place of the
entry, from 1.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence

from engine.book.content import Parked
from engine.ledger.freezes import Freeze
from engine.ledger.nouns import Position
from engine.store.connections import Connections
from engine.store.records import freeze_of, waiter_of
from engine.store.rows import Flush, Waiter


def parked_of(waiting: Iterable[Waiter]) -> list[Parked]:
    """Entries that wait, as the chain has them."""
    return [
        Parked(w.shard, w.position, w.original, w.freeze, w.size, w.ids, w.digest, w.fields)
        for w in waiting
    ]


async def write_waiting(connections: Connections, flush: Flush) -> None:
    """Write which entries wait from now on, and which waited and are decided."""
    if flush.waiting:
        await _insert_waiting(connections, flush.number, flush.waiting)
    if flush.released:
        positions = [position for _, position in flush.released]
        await connections.write_rows(
            "ledger.released",
            len(positions),
            "insert_released",
            flush.number,
            [shard for shard, _ in flush.released],
            [position.generation for position in positions],
            [position.ms for position in positions],
            [position.seq for position in positions],
        )


async def _insert_waiting(connections: Connections, number: int, waiting: Sequence[Waiter]) -> None:
    positions = [waiter.position for waiter in waiting]
    originals = [waiter.original for waiter in waiting]
    ids = [(place, id_) for place, waiter in enumerate(waiting, 1) for id_ in waiter.ids]
    fields = [(place, field) for place, waiter in enumerate(waiting, 1) for field in waiter.fields]
    await connections.write_rows(
        "ledger.waiting",
        len(waiting),
        "insert_waiting",
        number,
        [waiter.shard for waiter in waiting],
        [position.generation for position in positions],
        [position.ms for position in positions],
        [position.seq for position in positions],
        [waiter.freeze for waiter in waiting],
        [len(waiter.ids) for waiter in waiting],
        [waiter.size for waiter in waiting],
        [waiter.digest for waiter in waiting],
        [None if original is None else original.generation for original in originals],
        [None if original is None else original.ms for original in originals],
        [None if original is None else original.seq for original in originals],
        [place for place, _ in ids],
        [id_ for _, id_ in ids],
        [place for place, _ in fields],
        [field for _, field in fields],
    )


class WaitingRows:
    """What is frozen, and the entries that wait for it, as a worker reads them.

    Args:
        connections: The worker's.
    """

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    async def load_freezes(self, numbers: Collection[int], since: int) -> list[Freeze]:
        """Freezes by their numbers, and those whose thaw declines what waited.

        Args:
            numbers: Of freezes.
            since: Of thaws: those with higher numbers.
        """
        rows = await self._connections.read("freezes_to_know", list(numbers), since)
        return [freeze_of(row) for row in rows]

    async def load_waiters(self, shards: Collection[int]) -> list[Waiter]:
        """The entries of some shards that wait, without what is in them."""
        rows = await self._connections.read("waiting_of_shards", list(shards))
        return [waiter_of(row) for row in rows]

    async def load_fields(
        self, shard: int, positions: Iterable[Position]
    ) -> dict[Position, list[bytes]]:
        """What is in entries of a shard that wait, or waited; those that never did are left out.

        Returns:
            By position, the fields as they came; of a copy with the transfers of its original.
        """
        wanted = list(positions)
        rows = await self._connections.read(
            "waiting_fields",
            shard,
            [position.generation for position in wanted],
            [position.ms for position in wanted],
            [position.seq for position in wanted],
        )
        return {
            Position(row["generation"], row["ms"], row["seq"]): _whole(
                row["fields"], row["original_fields"]
            )
            for row in rows
        }

    async def find_kept(
        self, shard: int, fields: Mapping[Position, Sequence[bytes]]
    ) -> set[Position]:
        """The positions of those entries of a shard that wait, or waited, as they are here."""
        kept = await self.load_fields(shard, fields)
        return {
            position
            for position in kept
            if payload_of(kept[position]) == payload_of(fields[position])
        }


def _whole(fields: list[bytes], original: list[bytes] | None) -> list[bytes]:
    if original is None:
        return fields
    return [*payload_of(original), *fields]


def payload_of(fields: Sequence[bytes]) -> list[bytes]:
    """The name and the value by which an entry carries its transfers."""
    return [
        word
        for name, value in zip(fields[::2], fields[1::2], strict=True)
        if name in {b"json", b"mp", b"bin"}
        for word in (name, value)
    ]
