"""What of a batch concerns other workers: which of them must be locked to decide it."""

from collections.abc import Iterable, Mapping

import numpy as np

from engine.book.book import Book
from engine.book.id_table import Slots
from engine.deciding.batch import CLOSING, RESOLVING, Batch, Ints, Mask
from engine.deciding.forms import Forms
from engine.deciding.limits import CREDIT_LIMIT
from engine.ledger.page import HoldStatus, IdRecord

EXPIRY = -1
"""Stands for an entry where a hold that expires needs the lock."""


def find_locks(
    book: Book,
    batch: Batch,
    forms: Forms,
    slots: tuple[Slots, Slots],
    *,
    columns: Mask,
    rules: Mask,
    records: Mapping[bytes, IdRecord | None],
    expiring: Iterable[bytes],
) -> dict[int, set[int]]:
    """By entry, the shards whose owners must be locked to decide it; `EXPIRY` for a hold.

    Args:
        book: Says what is owned.
        batch: The requests.
        forms: What they are.
        slots: Of the debit and the credit account of each request, -1 for none.
        columns: Which moves and holds columns decide.
        rules: Which requests the rules decide.
        records: What is known of ids.
        expiring: Ids of holds that expire first.
    """
    if book.owns_all:
        return {}
    needed = _LocksNeeded(book, batch, forms, slots)
    needed.add_moves(columns)
    needed.add_rules(np.flatnonzero(rules), records)
    needed.add_expiries(expiring, records)
    return needed.locks


class _LocksNeeded:
    """Collects the shards of others that a batch depends on."""

    def __init__(self, book: Book, batch: Batch, forms: Forms, slots: tuple[Slots, Slots]) -> None:
        self._book = book
        self._batch = batch
        self._forms = forms
        self._debit, self._credit = slots
        self.locks: dict[int, set[int]] = {}

    def add_moves(self, columns: Mask) -> None:
        """Moves in columns: debits at home, and credits that nothing limits, need no lock."""
        book, debit, credit = self._book, self._debit, self._credit
        limited = book.flags[credit] & CREDIT_LIMIT != 0
        for away, slots in (
            (columns & ~book.mine[debit], debit),
            (columns & ~book.mine[credit] & limited, credit),
        ):
            for row in np.flatnonzero(away).tolist():
                self._add(int(self._batch.entries[row]), {int(book.home[slots[row]])})

    def add_rules(self, rows: Ints, records: Mapping[bytes, IdRecord | None]) -> None:
        """Requests for the rules."""
        for row in rows.tolist():
            if records.get(self._batch.rows["id"][row].tobytes()) is not None:
                continue  # what is judged on committed rows concerns nobody else
            if int(self._batch.rows["flags"][row]) & RESOLVING:
                hold = records.get(self._batch.rows["pending_id"][row].tobytes())
                shards = set() if hold is None else self._of_hold(hold)
            else:
                shards = self._of_move(row, int(self._debit[row]), int(self._credit[row]))
            self._add(int(self._batch.entries[row]), shards)

    def add_expiries(
        self, expiring: Iterable[bytes], records: Mapping[bytes, IdRecord | None]
    ) -> None:
        """Holds that expire first."""
        for hold_id in expiring:
            hold = records.get(hold_id)
            if hold is not None:
                self._add(EXPIRY, self._of_hold(hold))

    def _add(self, entry: int, shards: set[int]) -> None:
        if shards:
            self.locks.setdefault(entry, set()).update(shards)

    def _of_move(self, row: int, debit: int, credit: int) -> set[int]:
        book = self._book
        if debit < 0 or credit < 0:
            return set()
        flags = int(self._batch.rows["flags"][row])
        if flags & CLOSING or book.near_overflow[debit] or book.near_overflow[credit]:
            return self._others()
        shards = set()
        if not book.mine[debit]:
            shards.add(int(book.home[debit]))
        depends = self._forms.exactly[row] or book.flags[credit] & CREDIT_LIMIT
        if not book.mine[credit] and depends:
            shards.add(int(book.home[credit]))
        return shards

    def _of_hold(self, hold: IdRecord) -> set[int]:
        """A hold is resolved where it was decided; one that closes concerns everybody."""
        if hold.status is not HoldStatus.pending:
            return set()
        away = self._others()
        return away if hold.transfer.flags & CLOSING else away & {hold.shard}

    def _others(self) -> set[int]:
        return set(np.flatnonzero(~self._book.owned).tolist())
