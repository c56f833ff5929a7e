"""Stores without their workers: claims and flushes by hand, in the order that a test wants."""

import uuid
from collections.abc import Sequence

import numpy as np

from engine.rows import POSTED
from engine.store.postgres import PostgresStore
from engine.store.rows import DeadLetter, Flush, Owned, Position
from tests.ledgers import Ledger, clock


async def opened(ledger: Ledger, lease_seconds: float = 60) -> PostgresStore:
    """The store of a new worker, registered, that owns nothing yet."""
    store = PostgresStore(ledger.dsn, uuid.uuid4().bytes)
    await store.open()
    await store.owning.register(lease_seconds)
    return store


async def claim(
    store: PostgresStore, owner: bytes, sequence: int = 1, shards: Sequence[int] = (0,)
) -> dict[int, Owned]:
    """Take shards from their owner by the next number of one's own chain."""
    return await store.owning.claim(owner, list(shards), sequence=sequence, time=clock())


def flush_to(
    position: Position, *letters: DeadLetter, sequence: int, number: int, shard: int = 0
) -> Flush:
    """A flush that moves a shard to `position`, and keeps dead letters, without any transfer."""
    rows = np.empty(0, POSTED)
    return Flush(sequence, number, clock(), [], rows, {shard: position}, list(letters))
