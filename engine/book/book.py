"""The book: what a worker holds in memory to decide by, in columns. It never waits.

Accounts have slots; a column is an array over slots. Each account is written through one
stripe: that of its home where the worker owns it, else that of the worker's writing shard.
`own` are the counters of that stripe, `others` the sums over all other stripes as they were
last read, which can only under-estimate what there is to spend.

Everything here rests on the worker's unbroken chain of flushes: after a flush that failed
the whole book is thrown away.
"""

from collections import deque
from collections.abc import Collection, Iterable
from typing import Final

import numpy as np
import numpy.typing as npt

from engine.book.columns import NO_POSTINGS, AccountRow, Decision, Postings
from engine.book.id_table import IdTable, Slots, Words, hash_words, words_of
from engine.book.open_holds import OpenHolds
from engine.book.runs import joined, run_lengths, run_starts, taken
from engine.ledger.nouns import TransferFlags
from engine.ledger.page import Account, HoldStatus, IdRecord

STRIPES_PER_ACCOUNT: Final = 1024

NEAR_OVERFLOW: Final = 2**60
"""Where an account's counters get there, its transfers go to the sequential rules."""

LARGE: Final = 2**40
"""Amounts from here on go to the sequential rules too, so that no flush adds up unnoticed."""

SEEN_BITS: Final = 22
"""The filter of ids seen lately has 2^22 places, 32 MB; what drops out Postgres finds."""

PENDING: Final = int(TransferFlags.pending)

DEBITS_PENDING, DEBITS_POSTED, CREDITS_PENDING, CREDITS_POSTED = range(4)


class Book:
    """Accounts in columns, and what lately became of ids.

    Args:
        owned: The shards whose accounts this book may debit and hold to limits.
        writing_shard: The shard through whose stripes other accounts are credited.
        shard_count: Of the ledger.
        capacity: Accounts that fit before the columns grow for the first time.
    """

    def __init__(
        self,
        owned: Collection[int],
        writing_shard: int,
        shard_count: int,
        capacity: int = 1024,
    ) -> None:
        self.shard_count = shard_count
        self.writing_shard = writing_shard
        self.owned = np.zeros(shard_count, bool)
        self.owned[list(owned)] = True
        self.owns_all = bool(self.owned.all())
        self._table = IdTable(capacity)
        self.number = np.zeros(capacity, np.int64)
        self.home = np.zeros(capacity, np.int16)
        self.ledger = np.zeros(capacity, np.uint32)
        self.code = np.zeros(capacity, np.uint16)
        self.flags = np.zeros(capacity, np.uint8)
        self.closed = np.zeros(capacity, bool)
        self.mine = np.zeros(capacity, bool)
        self.near_overflow = np.zeros(capacity, bool)
        self.stripe = np.zeros(capacity, np.int64)
        self.version = np.zeros(capacity, np.int64)
        self.used = np.zeros(capacity, np.int64)
        self.own = np.zeros((4, capacity), np.int64)
        self.others = np.zeros((4, capacity), np.int64)
        self.holds = OpenHolds()
        self._seen = np.zeros(1 << SEEN_BITS, np.uint64)
        # By flush, what reads from Postgres may not have seen: one that landed, those under
        # way, the one that is open.
        self._lately: deque[list[Decision]] = deque([[], []])
        self._flushes = 1

    # Accounts.

    @property
    def accounts(self) -> int:
        """How many accounts are in the book."""
        return self._table.count

    def find(self, words: Words) -> Slots:
        """The slots of accounts; -1 for those that are not in the book."""
        return self._table.find(words)

    def add_accounts(self, rows: Iterable[AccountRow]) -> None:
        """Bring in accounts as Postgres has them, except those that are here already."""
        new = list(rows)
        if not new:
            return
        words = words_of(np.frombuffer(b"".join(row.id for row in new), "V16"))
        absent = self._table.find(words) < 0
        new = [row for row, wanted in zip(new, absent, strict=True) if wanted]
        if not new:
            return
        slots = self._table.add(words[absent])
        self._grow(self._table.count)
        self.number[slots] = [row.number for row in new]
        self.home[slots] = [row.shard for row in new]
        self.ledger[slots] = [row.ledger for row in new]
        self.code[slots] = [row.code for row in new]
        self.flags[slots] = [row.flags for row in new]
        self.closed[slots] = [row.closed for row in new]
        self.mine[slots] = self.owned[self.home[slots]]
        shard = np.where(self.mine[slots], self.home[slots], self.writing_shard)
        self.stripe[slots] = self.number[slots] * STRIPES_PER_ACCOUNT + shard
        self.version[slots] = [row.version for row in new]
        self.own[:, slots] = np.array([row.own for row in new], np.int64).T
        self.others[:, slots] = np.array([row.others for row in new], np.int64).T
        self.mark_near_overflow(slots)

    def _grow(self, count: int) -> None:
        capacity = len(self.number)
        if count <= capacity:
            return
        capacity = max(count, 2 * capacity)
        for name in _COLUMNS:
            column = getattr(self, name)
            grown = np.zeros((*column.shape[:-1], capacity), column.dtype)
            grown[..., : column.shape[-1]] = column
            setattr(self, name, grown)

    def take_over(self, other: "Book") -> None:
        """Take in what a book made for a locked flush knows better by now."""
        slots = np.arange(other.accounts)
        at = self.find(other._table.words(slots))  # noqa: SLF001 - another of its kind
        here = np.flatnonzero(at >= 0)
        self.closed[at[here]] = other.closed[here]
        here = here[self.stripe[at[here]] == other.stripe[here]]
        self.version[at[here]] = other.version[here]
        self.own[:, at[here]] = other.own[:, here]
        self.others[:, at[here]] = other.others[:, here]
        self.mark_near_overflow(at[here])
        # All that was under way is committed: what is looked up from now on is newer.
        self._lately = deque([[], []])
        for decided in (one for flush in other._lately for one in flush):  # noqa: SLF001
            self.holds.end(words_of(decided.resolutions.hold_ids))
            self._note_seen(decided)

    def forget_unused(self, keep: int) -> None:
        """Forget accounts, the least recently used first, until `keep` are left.

        Called only while everything decided is committed.
        """
        order = np.argsort(self.used[: self.accounts], kind="stable")
        self._keep(np.sort(order[max(len(order) - keep, 0) :]))

    def change_owned(self, owned: Collection[int]) -> None:
        """Other shards are owned now: what is to be written through other stripes is forgotten.

        Called only while everything decided is committed.
        """
        before = self.owned.copy()
        self.owned[:] = False
        self.owned[list(owned)] = True
        self.owns_all = bool(self.owned.all())
        stays = (before == self.owned)[self.home[: self.accounts]]
        if not self.owned[self.writing_shard]:
            self.writing_shard = min(owned, default=0)
            stays &= self.mine[: self.accounts]
        if self.owns_all:
            # From now on nobody is asked what others have brought: all of that is loaded anew.
            stays[:] = False
        self._keep(np.flatnonzero(stays))
        self.holds.forget(np.flatnonzero(before & ~self.owned).tolist())

    def _keep(self, slots: Slots) -> None:
        """Forget all accounts but these, which keep their order."""
        table = IdTable(max(len(slots), 8))
        table.add(self._table.words(slots))
        self._table = table
        for name in _COLUMNS:
            setattr(self, name, getattr(self, name)[..., slots].copy())
        self._grow(8)

    def mark_near_overflow(self, slots: Slots) -> None:
        """Note which of these accounts the fast path must leave alone."""
        total = np.abs(self.own[:, slots]) + np.abs(self.others[:, slots])
        self.near_overflow[slots] = (total > NEAR_OVERFLOW).any(axis=0)

    def refresh(self, numbers: npt.NDArray[np.int64], others: npt.NDArray[np.int64]) -> None:
        """Take in the sums over other stripes, read anew, shape (4, n)."""
        order = np.argsort(self.number[: self.accounts])
        slots = order[np.searchsorted(self.number[order], numbers)]
        self.others[:, slots] = others

    def account(self, slot: int) -> Account:
        """An account as an object for the rules."""
        totals = (self.own[:, slot] + self.others[:, slot]).tolist()
        return Account(
            self._table.words(np.array([slot])).tobytes(),
            int(self.number[slot]),
            int(self.ledger[slot]),
            int(self.code[slot]),
            int(self.flags[slot]),
            bool(self.closed[slot]),
            totals[DEBITS_PENDING],
            totals[DEBITS_POSTED],
            totals[CREDITS_PENDING],
            totals[CREDITS_POSTED],
            bool(self.mine[slot]),
        )

    # Ids.

    def seen(self, words: Words) -> npt.NDArray[np.bool_]:
        """Which ids may have been decided lately: "seen" may be wrong, "new" means nothing."""
        hashes = hash_words(words)
        mask = np.uint64(len(self._seen) - 1)
        seen: npt.NDArray[np.bool_] = self._seen[hashes & mask] == hashes
        return seen

    def lately(self, ids: Iterable[bytes]) -> dict[bytes, IdRecord]:
        """What became of ids in flushes that reads from Postgres may not have seen yet."""
        wanted = list(ids)
        found: dict[bytes, IdRecord] = {}
        if not wanted or not any(self._lately):
            return found
        words = words_of(np.frombuffer(b"".join(wanted), "V16"))
        for decided in (one for flush in self._lately for one in flush):
            for at, row in enumerate(decided.find(words).tolist()):
                if row >= 0:
                    found[wanted[at]] = decided.known(row)
        return found

    def resolved_lately(self, hold_id: bytes) -> HoldStatus | None:
        """How a hold ended in those flushes, or None where it did not."""
        for decided in (one for flush in self._lately for one in flush):
            status = decided.resolved(hold_id)
            if status is not None:
                return status
        return None

    def note(self, decided: Decision) -> None:
        """Take in what was decided: counters, closings, ids."""
        self.used[decided.slots] = self._flushes
        for kind in range(4):
            deltas = decided.deltas[kind]
            changed = np.flatnonzero(deltas)
            if len(changed):
                np.add.at(self.own[kind], decided.slots[changed], deltas[changed])
        if decided.deltas.size and np.abs(decided.deltas).max() >= LARGE:
            self.mark_near_overflow(np.unique(decided.slots))
        for account_id, closed in decided.closings.items():
            slot = self._table.find(words_of(np.frombuffer(account_id, "V16")))
            self.closed[slot] = closed
        self._note_seen(decided)
        self.holds.add(taken(decided.spent, np.flatnonzero(decided.spent["flags"] & PENDING)))
        self.holds.end(words_of(decided.resolutions.hold_ids))
        self._lately[-1].append(decided)

    def _note_seen(self, decided: Decision) -> None:
        for rows in (decided.spent, decided.refused.requests):
            if len(rows):
                hashes = hash_words(words_of(rows["id"]))
                self._seen[hashes & np.uint64(len(self._seen) - 1)] = hashes

    def begin_flush(self) -> None:
        """What is noted from now on belongs to the next flush."""
        self._lately.append([])
        self._flushes += 1

    def end_flush(self) -> None:
        """The oldest flush under way is committed; the one that landed before it is forgotten.

        It is kept that long since something looked up before it landed may be decided after.
        """
        self._lately.popleft()

    def take_back(self, posted: Iterable[Decision], noted: Iterable[Decision]) -> bool:
        """Forget what was decided and will not be committed; all else stands as committed.

        Args:
            posted: Decisions of flushes that were made ready.
            noted: Those of the flush that is open.

        Returns:
            Whether that was possible: not where accounts were closed or reopened.
        """
        decided = [*posted, *noted]
        if any(one.closings for one in decided):
            return False
        for one in posted:
            np.subtract.at(self.version, one.slots, 1)
        for one in decided:
            for kind in range(4):
                np.subtract.at(self.own[kind], one.slots, one.deltas[kind])
            self.mark_near_overflow(np.unique(one.slots))
        for one in decided:
            self.holds.reopen(words_of(one.resolutions.hold_ids))
        for one in decided:
            self.holds.end(words_of(one.spent["id"]))
        self._lately = deque([[], []])
        return True

    def post(self, decided: list[Decision]) -> Postings:
        """The postings of a flush: every leg with its version and the counters after it.

        Args:
            decided: All that goes into the flush, in order, noted already.
        """
        slots = joined([one.slots for one in decided])
        count = len(slots)
        if not count:
            return NO_POSTINGS
        deltas = decided[0].deltas
        if len(decided) > 1:
            deltas = np.concatenate([one.deltas for one in decided], axis=1)
        transfers = joined([one.transfer_ids() for one in decided])
        # One sort of plain integers: by slot, then in the order in which it was decided.
        keys = np.sort((slots << 24) | np.arange(count))
        order = keys & 0xFFFFFF
        slots = keys >> 24
        first = run_starts(slots)
        run = run_lengths(first, count)
        last = first + run - 1
        heads = slots[first]
        runs = np.zeros(count, np.int64)
        runs[last] = run
        versions = np.arange(1, count + 1) + np.repeat(self.version[heads] - first, run)
        self.version[heads] += run
        # The book is at the end of the flush: the counters before it follow backwards.
        changes = np.zeros((4, count), np.int64)
        counters = np.empty((4, count), np.int64)
        for kind in range(4):
            after = self.own[kind, heads]
            if deltas[kind].any():
                changes[kind] = deltas[kind, order]
                sums = np.cumsum(changes[kind])
                counters[kind] = sums + np.repeat(after - sums[last], run)
            else:
                counters[kind] = np.repeat(after, run)
        self.mark_near_overflow(heads)
        return Postings(
            stripe=self.stripe[slots],
            version=versions,
            run=runs,
            transfer_id=transfers[order],
            amount=changes[CREDITS_POSTED] - changes[DEBITS_POSTED],
            pending_amount=changes[CREDITS_PENDING] - changes[DEBITS_PENDING],
            counters=counters,
        )


_COLUMNS: Final = (
    "number",
    "home",
    "ledger",
    "code",
    "flags",
    "closed",
    "mine",
    "near_overflow",
    "stripe",
    "version",
    "used",
    "own",
    "others",
)
