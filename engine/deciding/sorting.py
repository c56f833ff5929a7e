"""Sorting a batch: which requests columns decide and which the rules, and who must be asked first.

Columns take a request when nothing can refuse it but a limit of its accounts. At each line that
sorts requests away stands the outcome that may be theirs; the rules find out whether it is. What
depends on the balance of the same account as a request of the rules goes to the rules with it.
"""

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np

from engine.book.book import Book
from engine.book.id_table import Slots
from engine.deciding.batch import CLOSING, RESOLVING, Batch, Mask
from engine.deciding.dependents import find_dependents
from engine.deciding.forms import Forms
from engine.deciding.locks import find_locks
from engine.deciding.repeats import find_taken_ids
from engine.deciding.resolutions import NO_RESOLVES, Resolves, find_resolves
from engine.ledger.nouns import ID_ZERO
from engine.ledger.page import IdRecord

CUT_ROWS: Final = 100
"""So many requests by the rules are about as much work as a part of a batch in columns."""

Records = Mapping[bytes, IdRecord | None]
"""What became of ids that were looked up; None for those that are free."""


class Sorted(NamedTuple):
    """A batch, sorted by what is known so far. Masks and columns are over its requests."""

    debit: Slots
    """Of the debit account, -1 for none; of a post or void in columns it is the hold's."""
    credit: Slots
    columns: Mask
    """Which moves and holds columns decide."""
    resolves: Resolves
    """The posts and voids that columns decide."""
    repeats: Mask
    """Which exist: they are what was created before, to the last byte."""
    rules: Mask
    """Which the rules decide, with all that depends on those."""
    dependents: Mask
    """Over slots and one more: the accounts whose balance the rules must know."""
    holds: list[IdRecord]
    """Holds that the rules may end."""
    ids: set[bytes]
    """Of transfers that the rules must know."""
    cuts: list[int]
    """Where the batch is to be cut and decided in parts, since the rules would otherwise have to
    take much of it for the sake of a few requests; mostly empty."""
    locks: dict[int, set[int]]
    """By entry, the shards whose owners must be locked to decide it; see `locks`."""


class Sorter:
    """Sorts one batch, again whenever more is known.

    Args:
        book: The accounts.
        batch: The requests.
        forms: What they are.
        expiring: Ids of holds that expire before the first request.
        time: Microseconds since 1970, of the decision.
        careful: Look up every id first.
        whole: Never ask for cuts.
    """

    def __init__(
        self,
        book: Book,
        batch: Batch,
        forms: Forms,
        expiring: Sequence[bytes],
        time: int,
        *,
        careful: bool,
        whole: bool,
    ) -> None:
        self._book = book
        self._batch = batch
        self._forms = forms
        self._expiring = expiring
        self._time = time
        self._whole = whole
        self._seen = book.seen.are_seen(batch.words[:, 0:2]) | careful

    def sort_batch(self, slots: tuple[Slots, Slots], records: Records, given_up: Mask) -> Sorted:
        """Sort the requests.

        Args:
            slots: Of the debit and the credit account that each names, -1 for none.
            records: What is known of ids.
            given_up: Which went to the rules since columns found no answer.
        """
        book, batch, forms = self._book, self._batch, self._forms
        debit, credit = slots
        near = self._are_near_overflow(debit, credit)
        plain = self._find_plain_moves(debit, credit) & ~near  # overflows_...
        resolves = NO_RESOLVES
        if len(forms.resolving):
            resolves = find_resolves(book, batch, forms, self._time)
            plain[resolves.rows] = True
            debit, credit = debit.copy(), credit.copy()
            debit[resolves.rows], credit[resolves.rows] = resolves.debit, resolves.credit
        if batch.frozen is not None:
            plain &= ~batch.frozen  # frozen
        ids = find_taken_ids(batch, forms, plain, self._seen, records)
        plain &= ~ids.taken  # exists, exists_with_different_..., id_already_failed
        plain &= ~given_up
        # A group of requests is decided by columns or by the rules, as a whole.
        broken = forms.whole(~plain) & forms.grouped
        plain &= ~broken
        exactly = forms.exactly | (near & (batch.rows["flags"] & RESOLVING == 0))
        in_order = exactly | broken | given_up
        holds = self._find_holds(plain, records)
        rules = ~(plain | ids.repeats)
        dependents = find_dependents(
            book,
            forms,
            (debit, credit),
            in_order=in_order,
            exactly=exactly,
            opening=[hold.transfer for hold in holds if hold.transfer.flags & CLOSING],
            rules=rules,
        )
        cuts = self._find_cuts(in_order, rules)
        if cuts:
            rules = ~(plain | ids.repeats)
        columns = ~(rules | ids.repeats)
        first = forms.first == np.arange(len(columns))
        resolves = resolves.part((columns & first)[resolves.rows])
        columns &= forms.moves & first
        return Sorted(
            debit=debit,
            credit=credit,
            columns=columns,
            resolves=resolves,
            repeats=ids.repeats & ~rules,
            rules=rules,
            dependents=dependents,
            holds=holds,
            ids=self._ids_for_rules(rules),
            cuts=cuts,
            locks=find_locks(
                book,
                batch,
                forms,
                (debit, credit),
                columns=columns,
                rules=rules,
                records=records,
                expiring=self._expiring,
            ),
        )

    def _are_near_overflow(self, debit: Slots, credit: Slots) -> Mask:
        """Whose account is near the end of its counters; both accounts must be there."""
        near = self._book.near_overflow
        are_near: Mask = (debit >= 0) & (credit >= 0) & (near[debit] | near[credit])
        return are_near

    def _find_plain_moves(self, debit: Slots, credit: Slots) -> Mask:
        """Moves and holds that nothing can refuse but limits, and ids that are taken."""
        book, ledger = self._book, self._batch.rows["ledger"]
        plain: Mask = self._forms.moves & (debit >= 0)  # debit_account_not_found
        plain &= credit >= 0  # credit_account_not_found
        plain &= debit != credit  # accounts_must_be_different
        plain &= book.ledger[debit] == ledger  # accounts_must_have_the_same_ledger, or
        plain &= book.ledger[credit] == ledger  # transfer_must_have_..., ledger_must_not_be_zero
        plain &= ~book.closed[debit]  # debit_account_already_closed
        plain &= ~book.closed[credit]  # credit_account_already_closed
        return plain

    def _find_holds(self, plain: Mask, records: Records) -> list[IdRecord]:
        """Holds that the rules may end, as far as they are known."""
        resolving = self._forms.resolving[~plain[self._forms.resolving]]
        ids = {*self._batch.rows["pending_id"][resolving].tolist(), *self._expiring}
        known = (records.get(hold_id) for hold_id in ids)
        return [record for record in known if record is not None and record.status]

    def _find_cuts(self, in_order: Mask, rules: Mask) -> list[int]:
        """Between requests that must be decided in order and those that columns can decide.

        Not where locks may be needed, which must be known of an entry as a whole.
        """
        if self._whole or not self._book.owns_all:
            return []
        cuts = np.flatnonzero(np.diff(in_order)) + 1
        return cuts.tolist() if len(cuts) * CUT_ROWS < np.count_nonzero(rules) else []

    def _ids_for_rules(self, rules: Mask) -> set[bytes]:
        rows = self._batch.rows
        ids = set(rows["id"][rules].tolist())
        resolving = self._forms.resolving[rules[self._forms.resolving]]
        ids.update(rows["pending_id"][resolving].tolist())
        ids.discard(ID_ZERO)
        ids.update(self._expiring)
        return ids
