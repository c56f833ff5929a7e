"""The flush that is being decided, and which entries may go into it."""

from collections.abc import Sequence

import numpy as np

from engine.book.columns import Decision
from engine.deciding.batch import Batch
from engine.store.rows import DeadLetter
from engine.worker.bounds import DEAD_LETTER_BYTES_MAX, DEAD_LETTERS_MAX
from engine.worker.flush_report import Phases
from engine.worker.inbox import Arrival, Room
from engine.worker.replies import Reply, dead_letters, replies_of


class OpenFlush:
    """What is decided since the last flush was sealed, and from which entries.

    Args:
        time: Of the flush, in microseconds since 1970.
        due: Holds that expire in it, before anything else, and when each does.
        resolved_until: Up to when all holds are resolved with it.
        now: By the loop's clock.
    """

    __slots__ = (
        "dead_letter_bytes",
        "dead_letters",
        "decided",
        "due",
        "gathers_waiting",
        "phases",
        "replies",
        "resolved_until",
        "time",
        "transfers",
    )

    def __init__(
        self, time: int, due: list[tuple[int, bytes]], resolved_until: int, now: float
    ) -> None:
        self.time = time
        self.resolved_until = resolved_until
        self.due = due
        self.decided: list[Decision] = []
        self.dead_letters: list[DeadLetter] = []
        self.dead_letter_bytes = 0
        self.replies: list[Reply] = []
        self.transfers = 0
        self.gathers_waiting = False
        """Whether anything is frozen or waits: then there may be entries that wait."""
        self.phases = Phases(opened=now)

    def room_up_to(self, transfers_max: int) -> Room:
        """What still fits in.

        Args:
            transfers_max: Transfers and entries in one flush.
        """
        return Room(
            transfers_max - self.transfers,
            DEAD_LETTERS_MAX - len(self.dead_letters),
            DEAD_LETTER_BYTES_MAX - self.dead_letter_bytes,
        )

    @property
    def arrivals(self) -> list[Arrival]:
        """The entries, in order."""
        return [reply.arrival for reply in self.replies]

    @property
    def size(self) -> int:
        """Entries in it, and holds that expire."""
        expired = sum(len(part.expiries) for part in self.decided)
        return len(self.replies) + len(self.due) + expired

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
        self.dead_letter_bytes += sum(a.size for a in arrivals if a.unreadable is not None)
        outcomes = np.concatenate([part.outcomes for part in parts])
        self.replies += replies_of(arrivals, batch, outcomes)
        self.transfers += len(batch.rows) + len(arrivals)


def batch_of(arrivals: Sequence[Arrival]) -> Batch:
    """Entries as one array of requests."""
    frozen = {place: a.frozen for place, a in enumerate(arrivals) if a.frozen is not None}
    return Batch([a.rows for a in arrivals], [a.entry.shard for a in arrivals], frozen)


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
