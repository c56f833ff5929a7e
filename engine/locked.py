"""The locked flush: deciding what depends on accounts of other workers.

The owners of all shards concerned are locked, in order; then everything is read afresh,
decided by the ordinary rules, and written in one transaction with a row in the own chain
and in each lender's, so that the lenders' books, which are out of date now, can commit
nothing before they are loaded again.
"""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import msgspec

from engine.aftermath import Told
from engine.book import Book, HoldStatus, Known
from engine.errors import TryAgainError
from engine.inbox import Arrival
from engine.nouns import ID_MAX, ID_ZERO, Transfer, shard_of
from engine.outcomes import Outcome
from engine.rules import decide_batch, expire_hold
from engine.store.postgres import PostgresStore
from engine.store.rows import DeadLetter, Flush, Owned

if TYPE_CHECKING:
    from engine.store.rows import Position

ROUNDS_MAX = 8
"""More shards can turn out to be concerned only after a lock; then all starts over."""


class Work(msgspec.Struct):
    """Entries to decide in order, and holds that are due."""

    arrivals: list[Arrival]
    due: list[bytes]

    @property
    def transfers(self) -> list[Transfer]:
        """All transfers of all entries."""
        return [t for arrival in self.arrivals for t in arrival.transfers]


class LockedResult(msgspec.Struct):
    """What a locked flush committed."""

    flush: Flush
    told: list[Told]
    timed: list[Known]
    """Holds created that may lapse."""


def shards_concerned(book: Book, transfers: Iterable[Transfer], shard_count: int) -> set[int]:
    """The shards whose owners must agree: homes of accounts, deciders of holds.

    Accounts that do not exist count too: they are at home somewhere, and may come to be.
    """
    shards = set()
    for t in transfers:
        ids = [t.debit_account_id, t.credit_account_id]
        hold = book.known(t.pending_id)
        if hold is not None and hold.outcome is Outcome.created:
            shards.add(hold.shard)
            ids += [hold.transfer.debit_account_id, hold.transfer.credit_account_id]
        shards |= {shard_of(one, shard_count) for one in ids if one not in (ID_ZERO, ID_MAX)}
    return shards


async def decide_locked(
    store: PostgresStore,
    work: Work,
    *,
    sequence: int,
    time: int,
    owned: Mapping[int, Owned],
    shard_count: int,
) -> LockedResult:
    """Decide `work` under the locks of all owners concerned, and commit.

    Args:
        store: No flush may be under way in it.
        work: What to decide.
        sequence: The next number of the own chain.
        time: Microseconds since 1970; raised above that of every shard concerned.
        owned: The worker's own shards.
        shard_count: Of the ledger.

    Raises:
        LostOwnershipError, ConflictError, TryAgainError: As `PostgresStore.flush`.
    """
    shards = {a.entry.shard for a in work.arrivals}
    shards |= shards_concerned(Book(), work.transfers, shard_count)
    for _ in range(ROUNDS_MAX):
        lenders = await store.begin_locked(shards)
        try:
            book = Book()
            more, positions, time, due = await _load(store, book, work, shards, time, shard_count)
            if more <= shards:
                # The own shards as this worker knows them: it is the one that moves them.
                positions |= {s: o for s, o in owned.items() if s in positions}
                flush, told, timed = _decide(book, work, due, positions, sequence, time)
                await store.finish_locked(flush, lenders)
                return LockedResult(flush, told, timed)
        except BaseException:
            await store.abandon_locked()
            raise
        await store.abandon_locked()
        shards |= more
    raise TryAgainError(f"more and more shards are concerned: {sorted(shards)}")


async def _load(
    store: PostgresStore,
    book: Book,
    work: Work,
    shards: set[int],
    time: int,
    shard_count: int,
) -> tuple[set[int], dict[int, Owned], int, list[bytes]]:
    """Read under the lock: ids, holds that are due in these shards, accounts.

    Returns:
        The shards concerned, their positions, the time to decide at, the due holds.
    """
    positions = await store.load_positions(shards)
    time = max([time, *(owned.time + 1 for owned in positions.values())])
    found = await store.load_due({s: o.time for s, o in positions.items()}, time, locked=True)
    due = [hold_id for _, _, hold_id in sorted(found)]
    due += [hold_id for hold_id in work.due if hold_id not in set(due)]

    transfers = work.transfers
    ids = {t.id for t in transfers} | {t.pending_id for t in transfers} | set(due)
    ids.discard(ID_ZERO)
    for known in await store.load_known(list(ids), locked=True):
        book.add_known(known)
    holds = [hold.transfer for hold in map(book.known, due) if hold is not None]
    more = shards_concerned(book, [*transfers, *holds], shard_count)
    more |= {hold.shard for hold in map(book.known, due) if hold is not None}
    accounts = {t.debit_account_id for t in [*transfers, *holds]}
    accounts |= {t.credit_account_id for t in [*transfers, *holds]}
    for t in transfers:
        hold = book.known(t.pending_id)
        if hold is not None:
            accounts |= {hold.transfer.debit_account_id, hold.transfer.credit_account_id}
    for account in await store.load_accounts(list(accounts), locked=True):
        book.add_account(account)
    return more, positions, time, due


def _decide(
    book: Book,
    work: Work,
    due: list[bytes],
    shards: Mapping[int, Owned],
    sequence: int,
    time: int,
) -> tuple[Flush, list[Told], list[Known]]:
    # Every shard decided for gets the time, also when all was declined.
    positions: dict[int, Position] = {shard: owned.position for shard, owned in shards.items()}
    for hold_id in due:
        hold = book.known(hold_id)
        if hold is not None and hold.status is HoldStatus.pending and hold.expires_at <= time:
            expire_hold(book, hold)
    told: list[Told] = []
    letters: list[DeadLetter] = []
    for arrival in work.arrivals:
        entry = arrival.entry
        if not entry.below:
            positions[entry.shard] = entry.position
        if arrival.unreadable is not None:
            reason = arrival.unreadable.reason
            letters.append(DeadLetter(entry.shard, entry.position, reason, entry.fields))
            told.append(Told(arrival, ()))
        else:
            outcomes = decide_batch(book, arrival.transfers, entry.shard, time)
            told.append(Told(arrival, outcomes))
    changes = book.take_changes()
    timed = [known for known in changes.spent.values() if known.expires_at]
    flush = Flush(sequence, time, changes, positions, letters, "locked")
    return flush, told, timed
