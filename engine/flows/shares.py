"""Which shards a session has: its share of all, while other workers come and go."""

import asyncio
import math
from collections import Counter

from engine.errors import TryAgainError
from engine.flows.ownership import NOBODY, FlowOwnership


class Shares:
    """The shards of one session, and its place in its worker's chain.

    Args:
        ownership: Of the worker.
        lease_seconds: How often to look is a part of it.
    """

    def __init__(self, ownership: FlowOwnership, lease_seconds: float) -> None:
        self._ownership = ownership
        self._lease_seconds = lease_seconds
        self._looked_at = -math.inf
        self.shards: set[int] = set()
        self.sequence = 0
        """The last number of the chain."""
        self.number = 0
        """For the next flush: above that of everything written so far."""
        self.is_settled = False
        """Whether nothing was to be had when it looked last."""

    async def load(self) -> None:
        """Begin with what Postgres says."""
        owned = await self._ownership.load_ownership()
        self.sequence, self.number, self.shards = owned.sequence, owned.number, owned.shards

    async def keep(self) -> set[int]:
        """Take what is free or has expired, up to the share; give back what is over it.

        Returns:
            The shards that were taken.

        Raises:
            TryAgainError: The shards are others than this session knew: it begins again.
        """
        if asyncio.get_running_loop().time() < self._looked_at + self._lease_seconds / 5:
            return set()
        self._looked_at = asyncio.get_running_loop().time()
        rows = await self._ownership.look()
        me = self._ownership.worker
        mine = {row["shard"] for row in rows if row["worker"] == me}
        if mine != self.shards:
            raise TryAgainError("the shards of this flow worker are others now: beginning again")
        share = math.ceil(len(rows) / max(rows[0]["workers"], 1))
        free = [row for row in rows if not row["alive"] and row["worker"] != me]
        wanted = free[: max(share - len(mine), 0)]
        self.is_settled = bool(mine) and not wanted
        if wanted:
            former = Counter(row["worker"] for row in wanted).most_common(1)[0][0]
            shards = [row["shard"] for row in wanted if row["worker"] == former]
            self._looked_at = -math.inf
            return await self._change(shards, former, me)
        if len(mine) > share:
            await self._change(sorted(mine)[share:], me, NOBODY)
        return set()

    async def _change(self, shards: list[int], former: bytes, worker: bytes) -> set[int]:
        owned = await self._ownership.load_ownership()
        if owned.sequence != self.sequence:
            raise TryAgainError("another wrote in this flow worker's chain: beginning again")
        changed = await self._ownership.change_owner(owned, shards, former, worker)
        # What is written for these shards from now on has a number above that of the change.
        after = await self._ownership.load_ownership()
        if after.sequence != self.sequence + 1:
            raise TryAgainError("another wrote in this flow worker's chain: beginning again")
        self.sequence, self.number = after.sequence, after.number
        if worker == NOBODY:
            raise TryAgainError("shards were given back: beginning again without them")
        self.shards |= changed
        return changed
