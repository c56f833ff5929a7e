"""Stores without their workers: claims and flushes by hand, in the order that a test wants."""

import uuid
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from engine.book.columns import NO_POSTINGS
from engine.ledger.nouns import Position
from engine.store.rows import DeadLetter, Flush, ShardProgress
from engine.store.worker_store import WorkerStore
from tests.ledgers import Ledger, clock


async def opened(ledger: Ledger, lease_seconds: float = 60) -> WorkerStore:
    """The store of a new worker, registered, that owns nothing yet."""
    store = WorkerStore(ledger.engine_dsn, uuid.uuid4().bytes)
    await store.open()
    await store.ownership.register(lease_seconds)
    return store


async def claim(
    store: WorkerStore,
    owner: bytes,
    shards: Sequence[int] = (0,),
    owned: Mapping[int, ShardProgress] = MappingProxyType({}),
) -> dict[int, ShardProgress]:
    """Take shards from their owner, as a worker that knows itself to own those of `owned`."""
    changed = await store.ownership.claim(owner, list(shards), owned=owned, time=clock())
    return {} if changed is None else {s: o for s, o in changed.owned.items() if s not in owned}


def flush_to(
    position: Position, *letters: DeadLetter, sequence: int, number: int, shard: int = 0
) -> Flush:
    """A flush that moves a shard to `position`, and keeps dead letters, without any transfer."""
    time = clock()
    places, resolved = {shard: position}, {shard: time}
    return Flush(sequence, number, time, [], NO_POSTINGS, places, resolved, list(letters))
