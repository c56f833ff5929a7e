"""The flush that is being decided, and which entries may go into it."""

from collections.abc import Sequence

import numpy as np

from engine.book.columns import Decision
from engine.deciding.batch import Batch
from engine.store.rows import DeadLetter
from engine.worker.flush_report import Phases
from engine.worker.inbox import Arrival
from engine.worker.replies import Reply, dead_letters, replies_of


class OpenFlush:
    """What is decided since the last flush was sealed, and from which entries.

    Args:
        time: Of the flush, in microseconds since 1970.
        due: Holds that expire in it, before anything else.
        now: By the loop's clock.
    """

    __slots__ = ("dead_letters", "decided", "due", "phases", "replies", "time", "transfers")

    def __init__(self, time: int, due: list[bytes], now: float) -> None:
        self.time = time
        self.due = due
        self.decided: list[Decision] = []
        self.dead_letters: list[DeadLetter] = []
        self.replies: list[Reply] = []
        self.transfers = 0
        self.phases = Phases(opened=now)

    @property
    def arrivals(self) -> list[Arrival]:
        """The entries, in order."""
        return [reply.arrival for reply in self.replies]

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to be written of it."""
        return not self.replies and not any(len(part.slots) for part in self.decided)

    def add_decided(
        self, arrivals: Sequence[Arrival], batch: Batch, parts: Sequence[Decision]
    ) -> None:
        """Take in entries and what became of them.

        Args:
            arrivals: The entries, in order.
            batch: The same as one array of requests.
            parts: Their decisions, which stand in `decided` already.
        """
        self.dead_letters += dead_letters(arrivals)
        outcomes = np.concatenate([part.outcomes for part in parts])
        self.replies += replies_of(arrivals, batch, outcomes)
        self.transfers += len(batch.rows) + len(arrivals)


def split_at_locks(
    arrivals: Sequence[Arrival], locks: dict[int, set[int]]
) -> tuple[list[Arrival], list[Arrival]]:
    """Entries before which nothing of their stream waits for a lock, and the others."""
    if -1 in locks:  # a hold expires first
        return [], list(arrivals)
    waiting: set[int] = set()
    free: list[Arrival] = []
    behind: list[Arrival] = []
    for place, arrival in enumerate(arrivals):
        if place in locks:
            waiting.add(arrival.entry.shard)
        (behind if arrival.entry.shard in waiting else free).append(arrival)
    return free, behind
