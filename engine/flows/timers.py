"""When flows are to be looked at: what is due soon is known, the rest sleeps in Postgres."""

import heapq
from collections.abc import Collection
from typing import Final

from engine.flows.store import FlowStore

HORIZON: Final = 3_600_000_000
"""Microseconds: what is due within it is known in memory, the rest sleeps in Postgres."""

DUE_MAX: Final = 2000
"""Flows whose time is over that are looked at in one round."""


class Timers:
    """The timers of one session: one a flow, its newest.

    Args:
        store: Where those are that sleep.
    """

    def __init__(self, store: FlowStore) -> None:
        self._store = store
        self._heap: list[tuple[int, bytes]] = []
        """The next ones first, and such as count no more."""
        self._times: dict[bytes, int] = {}
        """By flow, its timer that counts."""
        self._loaded_until = 0

    async def load(self, shards: Collection[int], now: int) -> None:
        """Load what is due soon, of shards that were just taken."""
        await self._load(shards, 0, max(self._loaded_until, now + HORIZON))

    async def load_more(self, shards: Collection[int], now: int) -> None:
        """Load what comes next, well before it is due."""
        if self._loaded_until < now + HORIZON // 2:
            await self._load(shards, self._loaded_until, now + HORIZON)

    async def _load(self, shards: Collection[int], after: int, until: int) -> None:
        self._loaded_until = until
        for wake_at, flow in await self._store.due(shards, after, until):
            if wake_at < self._times.get(flow, wake_at + 1):
                self.set(flow, wake_at)

    def set(self, flow: bytes, wake_at: int) -> None:
        """Look at a flow at a time, and at no other; one far ahead is found in Postgres later."""
        if wake_at > self._loaded_until:
            self.drop(flow)
        elif self._times.get(flow) != wake_at:
            self._times[flow] = wake_at
            heapq.heappush(self._heap, (wake_at, flow))

    def drop(self, flow: bytes) -> None:
        """Look at a flow no more: it has ended, or waits for no time."""
        self._times.pop(flow, None)

    def pop_due(self, now: int) -> list[bytes]:
        """The flows whose time is over, each once."""
        due: list[bytes] = []
        while self._heap and self._heap[0][0] <= now and len(due) < DUE_MAX:
            wake_at, flow = heapq.heappop(self._heap)
            if self._times.get(flow) == wake_at:
                del self._times[flow]
                due.append(flow)
        return due

    def seconds_left(self, now: int, seconds_max: float) -> float:
        """How long nothing is due, at most."""
        if not self._heap:
            return seconds_max
        return min(seconds_max, max((self._heap[0][0] - now) / 1e6, 0.005))
