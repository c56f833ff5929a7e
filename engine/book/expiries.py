"""Which holds expire next: those of a worker's shards, up to a horizon, earliest first."""

import heapq

import numpy as np

from engine.book.columns import Decision
from engine.book.runs import taken


class Expiries:
    """Holds with a time-out that may have to be expired.

    A hold stays in here when it is posted or voided; whether it is still pending is
    looked up when its time comes.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[int, bytes]] = []
        self._here: set[bytes] = set()
        self.horizon = 0
        """Every unresolved hold that expires up to here is inside. Microseconds since 1970."""

    def add_hold(self, expires_at: int, hold_id: bytes) -> None:
        """Watch a hold, if it expires within the horizon."""
        if expires_at <= self.horizon and hold_id not in self._here:
            self._here.add(hold_id)
            heapq.heappush(self._heap, (expires_at, hold_id))

    def note_decision(self, decision: Decision) -> None:
        """Watch the holds that were decided."""
        for row in taken(decision.spent, np.flatnonzero(decision.spent["expires_at"])):
            self.add_hold(int(row["expires_at"]), row["id"].tobytes())

    def __len__(self) -> int:
        return len(self._heap)

    def is_due(self, now: int) -> bool:
        """Whether a hold expires by now, or may, beyond the horizon."""
        return now > self.horizon or bool(self._heap and self._heap[0][0] <= now)

    def next_at(self) -> int | None:
        """When the next hold expires."""
        return self._heap[0][0] if self._heap else None

    def take_expired(self, time: int, count_max: int) -> list[tuple[int, bytes]]:
        """When and which expire up to `time`, earliest first; they are inside no more.

        Args:
            time: Microseconds since 1970.
            count_max: How many at most; the others stay.
        """
        due: list[tuple[int, bytes]] = []
        while self._heap and self._heap[0][0] <= time and len(due) < count_max:
            expiry = heapq.heappop(self._heap)
            self._here.discard(expiry[1])
            due.append(expiry)
        return due

    def resolved_until(self, time: int) -> int:
        """Up to when, and not beyond `time`, no hold is left that was not taken."""
        earliest = self._heap[0][0] - 1 if self._heap else time
        return min(time, earliest, self.horizon)
