"""What is known of ids and accounts while one batch is decided, and what is asked for.

Three sources know what became of an id: decisions that are not committed, what a decision before
this one looked up, and Postgres. They are asked in this order, and only Postgres takes a wait.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
import numpy.typing as npt

from engine.book.book import Book
from engine.book.columns import kept_rows
from engine.book.id_table import words_of
from engine.deciding.batch import BALANCING, Batch
from engine.deciding.forms import Forms
from engine.deciding.missing import Missing
from engine.deciding.sorting import Sorted
from engine.ledger.outcomes import Outcome
from engine.ledger.page import HoldStatus, IdRecord


@dataclass(slots=True)
class Lookup:
    """What is missing of ids that were asked for, and whether anything was learnt of others."""

    missing: Missing | None
    learnt: bool


class Knowledge:
    """What was learnt for one batch, by looking up and from what is under way.

    Args:
        book: The accounts, and what is not committed.
        expiring: Ids of holds that expire before the first request.
        before: What Postgres was found to know of ids just now; None of those that are free.

    Attributes:
        records: What became of ids; None of those that are free.
    """

    def __init__(
        self, book: Book, expiring: Iterable[bytes], before: Mapping[bytes, IdRecord | None]
    ) -> None:
        self._book = book
        self._expiring = frozenset(expiring)
        self._before = before
        self.records: dict[bytes, IdRecord | None] = {}
        self._asked: set[bytes] = set()
        self._refreshed: set[int] = set()

    # Learning.

    def learn(self, ids: Iterable[bytes], records: Sequence[IdRecord]) -> bool:
        """These records are what is known of these ids; the others of them are free.

        Returns:
            Whether an id was found that is taken.
        """
        records = [*records]
        free = set(ids) - {record.transfer.id for record in records}
        # Of a hold that expires Postgres was asked first: what it does not show may be under way.
        records += self._book.uncommitted.find_records(free & self._expiring).values()
        self.records.update(dict.fromkeys(free))
        pending = [record.transfer.id for record in records if record.status is HoldStatus.pending]
        # Postgres does not show yet how a flush under way ends a hold.
        ends = self._book.uncommitted.find_ends(pending)
        open_here = []
        for record in records:
            status = ends.get(record.transfer.id, record.status)
            self.records[record.transfer.id] = msgspec.structs.replace(record, status=status)
            if status is HoldStatus.pending and self._book.owned[record.shard]:
                open_here.append(record)
        self._book.holds.add_holds(kept_rows(open_here))
        return bool(records)

    # Asking.

    def ask_ids(self, wanted: set[bytes]) -> Lookup:
        """Learn of ids what is under way or was known before; ask for the others."""
        learnt = False
        unknown = wanted - self.records.keys()
        if unknown:
            lately = self._book.uncommitted.find_records(unknown - self._expiring)
            if lately:
                learnt = self.learn(lately, [*lately.values()])
                unknown -= lately.keys()
        before = unknown & self._before.keys()
        if before:
            found = [self._before[transfer_id] for transfer_id in before]
            learnt |= self.learn(before, [record for record in found if record is not None])
            unknown -= before
        return Lookup(Missing(ids=list(unknown)) if unknown else None, learnt)

    def ask_accounts(self, unknown: set[bytes]) -> Missing | None:
        """Ask for accounts that are not in the book, each once: what is not found is not there."""
        unknown -= self._asked
        self._asked |= unknown
        return Missing(accounts=list(unknown)) if unknown else None

    def ask_accounts_of(self, holds: Sequence[IdRecord]) -> Missing | None:
        """Ask for accounts of holds that are not in the book."""
        ids = list(accounts_of(holds))
        if not ids:
            return None
        slots = self._book.find_accounts(words_of(np.frombuffer(b"".join(ids), "V16")))
        absent = {account_id for account_id, slot in zip(ids, slots, strict=True) if slot < 0}
        return self.ask_accounts(absent)

    def ask_refresh(
        self, batch: Batch, forms: Forms, found: Sorted, outcomes: npt.NDArray[np.uint8]
    ) -> Missing | None:
        """Accounts about to be found short, while others may have credited them since."""
        book = self._book
        if book.owns_all:
            return None
        slots: set[int] = set()
        for outcome, column in (
            (Outcome.exceeds_credits, found.debit),
            (Outcome.exceeds_debits, found.credit),
        ):
            slots.update(column[outcomes == outcome].tolist())
        balancing = np.flatnonzero(batch.rows["flags"] & BALANCING)
        slots.update(found.debit[balancing].tolist(), found.credit[balancing].tolist())
        numbers = {int(book.number[slot]) for slot in slots if slot >= 0 and book.mine[slot]}
        numbers -= self._refreshed
        self._refreshed |= numbers
        if not numbers:
            return None
        # Holds that were not found may have come with what is read now.
        pending = batch.rows["pending_id"][forms.resolving].tolist()
        again = [hold_id for hold_id in pending if self.records.get(hold_id, self) is None]
        return Missing(refresh=list(numbers), ids=list(dict.fromkeys(again)))


def accounts_of(holds: Iterable[IdRecord]) -> set[bytes]:
    """The ids of the accounts that holds are on."""
    transfers = [hold.transfer for hold in holds]
    return {t.debit_account_id for t in transfers} | {t.credit_account_id for t in transfers}
