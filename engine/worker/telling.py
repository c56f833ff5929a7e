"""From what was decided back to the entries: outcomes, dead letters, positions."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from engine.book.columns import Posted
from engine.deciding.batch import Batch
from engine.ledger.nouns import Position
from engine.store.rows import DeadLetter
from engine.worker.inbox import Arrival
from engine.worker.replies import Told

_NONE = np.empty(0, np.uint8)


def tell(arrivals: Sequence[Arrival], batch: Batch, outcomes: npt.NDArray[np.uint8]) -> list[Told]:
    """To each entry its outcomes."""
    ends = batch.ends.tolist()
    return [
        Told(arrival, outcomes[start:end] if arrival.request is not None else _NONE)
        for arrival, start, end in zip(arrivals, ends[:-1], ends[1:], strict=True)
    ]


def dead_letters(arrivals: Sequence[Arrival]) -> list[DeadLetter]:
    """The entries that cannot be read."""
    return [
        DeadLetter(a.entry.shard, a.entry.position, a.unreadable.reason, a.entry.fields)
        for a in arrivals
        if a.unreadable is not None
    ]


def positions_of(
    posted: Posted, arrivals: Sequence[Arrival], reached: Mapping[int, Position]
) -> dict[int, Position]:
    """How far each shard gets that a flush touches: by an entry, or by a posting alone.

    Args:
        posted: The postings of the flush.
        arrivals: Its entries.
        reached: How far each shard got by all flushes before.
    """
    touched = np.flatnonzero(np.bincount(posted.stripe & 1023)).tolist()
    positions = {shard: reached[shard] for shard in touched}
    for arrival in arrivals:
        entry = arrival.entry
        # An entry from below the position does not move it.
        at = reached[entry.shard]
        positions[entry.shard] = max(positions.get(entry.shard, at), entry.position, at)
    return positions
