"""The book: what a worker holds in memory to decide by, in columns. It never waits.

Accounts have slots; a column is an array over slots. Each account is written through one
stripe: that of its home where the worker owns it, else that of the worker's writing shard.
`own` are the counters of that stripe, `others` the sums over all other stripes as they were
last read, which can only under-estimate what there is to spend. Of an account that is at home
elsewhere `others` is what its home stripe said: it shows whether a counter is near its end.

Everything here rests on the worker's unbroken chain of flushes: after a flush that failed
the whole book is thrown away.
"""

from collections.abc import Collection, Iterable
from typing import Final

import numpy as np
import numpy.typing as npt

from engine.book.columns import AccountColumns, Decision
from engine.book.counter_bounds import LARGE, NEAR_OVERFLOW
from engine.book.id_table import IdTable, Slots, Words, words_of
from engine.book.open_holds import OpenHolds
from engine.book.runs import taken
from engine.book.seen_ids import SeenIds
from engine.book.uncommitted import Uncommitted
from engine.ledger.nouns import TransferFlags
from engine.ledger.page import Account

STRIPES_PER_ACCOUNT: Final = 1024

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
        self.seen = SeenIds()
        self.uncommitted = Uncommitted()
        self._flushes = 1

    # Accounts.

    @property
    def accounts(self) -> int:
        """How many accounts are in the book."""
        return self._table.count

    def find_accounts(self, words: Words) -> Slots:
        """The slots of accounts; -1 for those that are not in the book."""
        return self._table.find(words)

    def add_accounts(self, accounts: AccountColumns) -> None:
        """Bring in accounts as Postgres has them, except those that are here already."""
        words = words_of(accounts.ids)
        absent = self._table.find(words) < 0
        if not absent.all():
            accounts, words = accounts.part(absent), words[absent]
        if not len(words):
            return
        slots = self._table.add(words)
        self._grow(self._table.count)
        self.number[slots] = accounts.number
        self.home[slots] = accounts.shard
        self.ledger[slots] = accounts.ledger
        self.code[slots] = accounts.code
        self.flags[slots] = accounts.flags
        self.closed[slots] = accounts.closed
        self.mine[slots] = self.owned[accounts.shard]
        shard = np.where(self.mine[slots], accounts.shard, self.writing_shard)
        self.stripe[slots] = accounts.number * STRIPES_PER_ACCOUNT + shard
        self.version[slots] = accounts.version
        self.own[:, slots] = accounts.own
        self.others[:, slots] = accounts.others
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
        at = self.find_accounts(other._table.words(slots))  # noqa: SLF001 - another of its kind
        here = np.flatnonzero(at >= 0)
        self.closed[at[here]] = other.closed[here]
        same = self.stripe[at[here]] == other.stripe[here]
        # Written at home there and through another stripe here: its sum counts all the same.
        apart = here[~same]
        total = other.own[:, apart] + other.others[:, apart]
        self.others[:, at[apart]] = total - self.own[:, at[apart]]
        same = here[same]
        self.version[at[same]] = other.version[same]
        self.own[:, at[same]] = other.own[:, same]
        self.others[:, at[same]] = other.others[:, same]
        self.mark_near_overflow(at[here])
        # All that was under way is committed: what is looked up from now on is newer.
        self.uncommitted.forget_all()
        for decision in other.uncommitted:
            self.holds.end_holds(words_of(decision.resolutions.hold_ids))
            self._note_seen(decision)

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
        if (self.owned & ~before).any():
            # What others brought by these shards is this book's to end from now on, and nobody
            # may be asked any more what it was: all is loaded anew.
            stays[:] = False
        self._keep(np.flatnonzero(stays))
        self.holds.forget_shards(np.flatnonzero(before & ~self.owned).tolist())

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
        # By floats, which do not wrap, whatever somebody has written into a stripe.
        total = np.abs(self.own[:, slots].astype(np.float64))
        total += np.abs(self.others[:, slots].astype(np.float64))
        self.near_overflow[slots] = (total > NEAR_OVERFLOW).any(axis=0)

    def refresh_others(self, numbers: npt.NDArray[np.int64], others: npt.NDArray[np.int64]) -> None:
        """Take in the sums over other stripes, read anew, shape (4, n)."""
        order = np.argsort(self.number[: self.accounts])
        slots = order[np.searchsorted(self.number[order], numbers)]
        self.others[:, slots] = others

    def accounts_at(self, slots: Slots) -> list[Account]:
        """Accounts as objects for the rules."""
        ids = self._table.words(slots).tobytes()
        own, others = self.own[:, slots].T.tolist(), self.others[:, slots].T.tolist()
        columns = (self.number, self.ledger, self.code, self.flags, self.closed, self.mine)
        found = []
        for place, (number, ledger, code, flags, closed, mine) in enumerate(
            zip(*(column[slots].tolist() for column in columns), strict=True)
        ):
            totals = [here + away for here, away in zip(own[place], others[place], strict=True)]
            account = Account(ids[16 * place : 16 * place + 16], number, ledger, code, flags)
            account.closed, account.exact = closed, mine
            account.debits_pending, account.debits_posted = totals[:CREDITS_PENDING]
            account.credits_pending, account.credits_posted = totals[CREDITS_PENDING:]
            found.append(account)
        return found

    # Decisions.

    def note_decision(self, decision: Decision) -> None:
        """Take in what was decided: counters, closings, ids."""
        self.used[decision.slots] = self._flushes
        for kind in range(4):
            deltas = decision.deltas[kind]
            changed = np.flatnonzero(deltas)
            if len(changed):
                np.add.at(self.own[kind], decision.slots[changed], deltas[changed])
        if decision.deltas.size and np.abs(decision.deltas).max() >= LARGE:
            self.mark_near_overflow(np.unique(decision.slots))
        for account_id, closed in decision.closings.items():
            slot = self._table.find(words_of(np.frombuffer(account_id, "V16")))
            self.closed[slot] = closed
        self._note_seen(decision)
        pending = np.flatnonzero(decision.spent["flags"] & PENDING)
        self.holds.add_holds(taken(decision.spent, pending))
        self.holds.end_holds(words_of(decision.resolutions.hold_ids))
        self.uncommitted.add_decision(decision)

    def _note_seen(self, decision: Decision) -> None:
        for rows in (decision.spent, decision.refused.requests):
            if len(rows):
                self.seen.add(words_of(rows["id"]))

    def begin_flush(self) -> None:
        """What is decided from now on belongs to the next flush."""
        self.uncommitted.begin_flush()
        self._flushes += 1

    def end_flush(self) -> None:
        """The oldest flush under way is committed."""
        self.uncommitted.end_flush()

    def take_back(self, posted: Iterable[Decision], noted: Iterable[Decision]) -> bool:
        """Forget what was decided and will not be committed; all else stands as committed.

        Args:
            posted: Decisions of flushes that were made ready.
            noted: Those of the flush that is open.

        Returns:
            Whether that was possible: not where accounts were closed or reopened.
        """
        decisions = [*posted, *noted]
        if any(decision.closings for decision in decisions):
            return False
        for decision in posted:
            np.subtract.at(self.version, decision.slots, 1)
        for decision in decisions:
            for kind in range(4):
                np.subtract.at(self.own[kind], decision.slots, decision.deltas[kind])
            self.mark_near_overflow(np.unique(decision.slots))
        for decision in decisions:
            self.holds.reopen_holds(words_of(decision.resolutions.hold_ids))
        for decision in decisions:
            self.holds.end_holds(words_of(decision.spent["id"]))
        self.uncommitted.forget_all()
        return True


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
