"""The flush that is being decided, and which entries may go into it."""

from collections.abc import Sequence

from engine.book.columns import Decision
from engine.store.rows import DeadLetter
from engine.worker.inbox import Arrival
from engine.worker.replies import Reply


class OpenFlush:
    """What is decided since the last flush was sent, and from which entries."""

    __slots__ = ("dead_letters", "decided", "due", "replies", "time", "transfers")

    def __init__(self, time: int, due: list[bytes]) -> None:
        self.time = time
        self.due = due
        self.decided: list[Decision] = []
        self.dead_letters: list[DeadLetter] = []
        self.replies: list[Reply] = []
        self.transfers = 0

    @property
    def arrivals(self) -> list[Arrival]:
        """The entries, in order."""
        return [one.arrival for one in self.replies]


def part(
    arrivals: Sequence[Arrival], locks: dict[int, set[int]]
) -> tuple[list[Arrival], list[Arrival]]:
    """Entries before which nothing of their stream waits for a lock, and the others."""
    if -1 in locks:  # a hold lapses first
        return [], list(arrivals)
    waiting: set[int] = set()
    free: list[Arrival] = []
    behind: list[Arrival] = []
    for at, arrival in enumerate(arrivals):
        if at in locks:
            waiting.add(arrival.entry.shard)
        (behind if arrival.entry.shard in waiting else free).append(arrival)
    return free, behind
