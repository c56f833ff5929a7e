"""How many entries of a stream may be set aside for want of an explanation, before it stands.

An entry that cannot be decided is set aside, so that it stops nobody. Where it is not the entry
that is at fault, as with a defect of our own or a trigger on a table, every entry would be:
then the stream stands, loudly, and is tried again by itself. So it is with holds that cannot
expire: beyond the limit none is tried for a while, and transfers go on.
"""

import asyncio
from collections import deque
from typing import Final

from engine.worker.bounds import SET_ASIDE_MAX, SET_ASIDE_SECONDS

HOLDS: Final = -1
"""In the place of a shard: the holds of all of them that cannot expire."""


class SetAsideLimit:
    """What was set aside of each shard, and when; it outlives sessions."""

    def __init__(self) -> None:
        self._times: dict[int, deque[float]] = {}

    def take(self, shard: int, now: float) -> bool:
        """Whether one more may be set aside; then it is counted. `now` in seconds."""
        times = self._times.setdefault(shard, deque())
        while times and times[0] <= now - SET_ASIDE_SECONDS:
            times.popleft()
        if len(times) >= SET_ASIDE_MAX:
            return False
        times.append(now)
        return True


class SkippedHolds(dict[bytes, int]):
    """Holds that cannot expire, and when they should have: nothing after that is resolved."""

    def __init__(self) -> None:
        super().__init__()
        self.stand_until = 0.0
        """No hold at all expires before, by the loop's clock: too many of them could not."""

    @property
    def all_stand(self) -> bool:
        """Whether no hold is to expire now."""
        return asyncio.get_running_loop().time() < self.stand_until
