"""The locked flush: deciding what depends on accounts of other workers.

The owners of all shards concerned are locked, in order; then everything is read afresh
into a book of its own, decided as anything else, and written in one transaction with a row
in the own chain and in each lender's, so that the lenders' books, which are out of date
now, can commit nothing before they are loaded again.
"""

from collections.abc import Collection, Mapping, Sequence

import msgspec

from engine.book.book import Book
from engine.book.columns import Decision
from engine.book.postings import post_decisions
from engine.deciding.batch import Batch
from engine.deciding.decider import Decider
from engine.errors import ChainMovedError, TryAgainError
from engine.store.rows import Flush, ShardProgress
from engine.store.worker_store import WorkerStore
from engine.worker.inbox import Arrival
from engine.worker.prefetch import look_up
from engine.worker.replies import Reply, dead_letters, positions_of, replies_of, resolved_of
from engine.worker.seal_checks import check_flush

ROUNDS_MAX = 8
"""More shards can turn out to be concerned only after a lock; then all starts over."""


class LockedResult(msgspec.Struct):
    """What a locked flush committed."""

    flush: Flush
    next_number: int
    replies: list[Reply]
    decided: Decision
    book: Book


async def decide_locked(
    store: WorkerStore,
    arrivals: Sequence[Arrival],
    shards: set[int],
    *,
    sequence: int | None,
    time: int,
    owned: Mapping[int, ShardProgress],
    writing_shard: int,
    shard_count: int,
    expiries_max: int,
    skipped: Collection[bytes],
) -> LockedResult:
    """Decide entries, and whatever lapses, under the locks of all owners concerned; commit.

    Args:
        store: No flush may be under way in it.
        arrivals: In order; perhaps none.
        shards: Whose owners are to be locked.
        sequence: The next number of the own chain; None to read it under the lock, where
            others kept taking it.
        time: Microseconds since 1970; raised above that of every shard concerned.
        owned: The worker's own shards.
        writing_shard: That one of them through whose stripes others' accounts are credited.
        shard_count: Of the ledger.
        expiries_max: How many holds lapse in it at most.
        skipped: Holds that cannot lapse, which are let be.

    Raises:
        ChainMovedError, ConflictError, TryAgainError: As `WorkerStore.flush`.
    """
    batch = Batch([a.rows for a in arrivals], [a.entry.shard for a in arrivals])
    shards = shards - owned.keys()
    for _ in range(ROUNDS_MAX):
        lenders = await store.begin_locked_flush(shards | owned.keys())
        try:
            expected = sequence
            if expected is None:
                ownership = await store.load_ownership()
                _check_unmoved(owned, ownership.shards)
                owned, expected = ownership.shards, ownership.sequence + 1
            concerned = dict(owned) | await store.load_positions(shards)
            time = max([time, *(progress.time + 1 for progress in concerned.values())])
            since = {shard: progress.resolved_until for shard, progress in concerned.items()}
            count = max(expiries_max, 1) + len(skipped)
            expiring = await store.load_expiring(since, time, count, locked=True)
            due = [hold_id for _, hold_id in expiring.holds if hold_id not in skipped]
            due = due[:expiries_max]
            book = Book(concerned, writing_shard, shard_count)
            deciding = Decider(book, batch, due, time, careful=True)
            newest = await look_up(deciding, book, store, locked=True)
            more = {shard for found in deciding.locks.values() for shard in found}
            if not more and newest < time:
                decided = deciding.finish_batch()
                posted = post_decisions(book, [decided])
                check_flush([decided], posted)
                reached = {shard: progress.position for shard, progress in concerned.items()}
                positions = {shard: reached[shard] for shard in shards}
                positions |= positions_of(posted, arrivals, reached)
                flush = Flush(
                    expected,
                    await store.reserve_number(),
                    time,
                    [decided],
                    posted,
                    positions,
                    resolved_of(positions, expiring.resolved_until(due), concerned),
                    dead_letters(arrivals),
                    "locked",
                )
                next_number = await store.finish_locked_flush(flush, lenders)
                replies = replies_of(arrivals, batch, decided.outcomes)
                return LockedResult(flush, next_number, replies, decided, book)
        except BaseException:
            await store.abandon_locked_flush()
            raise
        await store.abandon_locked_flush()
        shards |= more
        time = max(time, newest + 1)
    raise TryAgainError(f"no end of locking: shards {sorted(shards)}, time {time}")


def _check_unmoved(owned: Mapping[int, ShardProgress], now: Mapping[int, ShardProgress]) -> None:
    """Entries are at hand from where these shards got: that must be so still."""
    if {s: o.position for s, o in owned.items()} != {s: o.position for s, o in now.items()}:
        raise ChainMovedError("shards or positions are others now")
