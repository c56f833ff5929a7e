"""Owning: a worker's shards come and go, each time in a row of its own chain."""

from collections.abc import Collection

from engine.errors import InvariantBroken
from engine.store.ownership import OwnershipChange
from engine.store.worker_store import WorkerStore
from engine.worker.chain import Chain
from engine.worker.flush_builder import FlushBuilder
from engine.worker.membership import Membership


class Claims:
    """Claims and releases of shards, between two flushes.

    Args:
        store: The ledger.
        chain: The worker's.
        builder: What is in memory, which rests on the shards.
        membership: What changes.
    """

    def __init__(
        self, store: WorkerStore, chain: Chain, builder: FlushBuilder, membership: Membership
    ) -> None:
        self._store = store
        self._chain = chain
        self._builder = builder
        self._membership = membership

    async def claim_shards(self, shards: Collection[int]) -> None:
        """Take over shards that are free or whose owners' leases have ended; nothing is under way.

        Raises as `Ownership.claim`; some may be this worker's all the same.
        """
        for owner in await self._store.ownership.read_owners(shards):
            changed = await self._store.ownership.claim(
                owner, shards, owned=self._membership.shards, time=self._builder.next_time()
            )
            if changed is not None:
                await self._rest_on_shards(changed)

    async def release_shards(
        self, shards: Collection[int], paused_seconds: float, *, leaving: bool = False
    ) -> None:
        """Give shards back, when nothing of them is in the inbox. Raises as `Ownership.release`."""
        if self._builder.is_busy():
            raise InvariantBroken("shards are given back while something is undecided")
        changed = await self._store.ownership.release(
            shards,
            owned=self._membership.shards,
            time=self._builder.next_time(),
            paused_seconds=paused_seconds,
            leaving=leaving,
        )
        if leaving:
            self._membership.change_shards(changed.owned)
            self._membership.left = True
        else:
            await self._rest_on_shards(changed)

    async def _rest_on_shards(self, changed: OwnershipChange) -> None:
        """What is in memory rests on other shards from now on; nothing is under way."""
        self._membership.change_shards(changed.owned)
        if changed.sequence != self._chain.sequence:
            # Others lent the chain before: what they wrote is not in the book.
            self._builder.forget_book()
        self._builder.book.change_owned(changed.owned)
        self._builder.begin_anew()
        number = await self._store.reserve_number()
        await self._chain.begin(changed.sequence + 1, number)
