"""Deciding a batch in columns, and by the sequential rules what columns cannot decide.

Theory of operation. Two machines decide, and their answers must be as if one had decided all
requests in order. *Columns* decide moves and holds, alone or in linked chains, posts and voids of
open holds, and repeats: all that can refuse one of these is a limit (`limits`). The *rules* decide
everything else, in order, on a page of objects: balancing, closing, anything malformed, other ids
that are taken, holds that are not what they should be.

What makes two machines one:

- The rules run first, columns after them. That is right as long as neither needs a balance that
  the other changes. An account is *conditional* when it has a limit or is near overflow. Where
  the rules must know the balance of such an account, every request on it goes to the rules too,
  and so on to the accounts that these touch (`dependents`).
- Posts, voids and expiries read no balance. What they set free is given to columns as changes of
  the accounts, each at its place in the order (`Legs`).
- Requests that stand or fall together go to one machine as a group (`forms`).

A batch goes through these steps, and back to an earlier one whenever something was learnt:

    find accounts ─► sort ─► decide ─► check refusals ─► `finish_batch`
           └─────────────┴────────┬──────────────┘
                 `supply` ◄─ what is missing

- `advance` goes as far as it can and says what is missing. `supply` is the one door by which
  what was looked up comes in; after it the batch is sorted and decided anew, by all that is known.
- A draft is checked before it counts: an id that is to be refused was looked up, and an account
  that is found short was read anew, since others may have credited it.
- Where columns find no answer (`find_refusals` returns None) the rules take all that touches a
  limit: slow, and seldom.
- Sorting may ask for cuts, or for locks. Then nothing is decided here: the caller decides the
  `parts` one after the other, or all of it under lock. A draft asks for locks too, where it would
  bring a stripe past its bounds (`bounds`).

Nothing is waited for, and nothing changes in the book until `finish_batch`, except that accounts
which were looked up come in.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

import msgspec
import numpy as np
import numpy.typing as npt

from engine.book.book import Book
from engine.book.columns import Decision
from engine.book.id_table import Slots, words_of
from engine.deciding.batch import Batch, Mask
from engine.deciding.bounds import find_locks_by_sums
from engine.deciding.forms import Forms
from engine.deciding.knowledge import Knowledge, accounts_of
from engine.deciding.limits import find_moves, find_refusals
from engine.deciding.missing import Found, Missing
from engine.deciding.resolutions import given_legs
from engine.deciding.results import Draft, all_legs, lay_out
from engine.deciding.sequential import run_rules
from engine.deciding.sorting import Sorted, Sorter
from engine.errors import InvariantBroken
from engine.ledger.nouns import ID_MAX, ID_ZERO
from engine.ledger.outcomes import Outcome
from engine.ledger.page import IdRecord, Page


class Decider:
    """One batch on its way to being decided.

    Args:
        book: The accounts.
        batch: The requests.
        expiring: Ids of holds that expire before the first request, earliest first.
        time: Microseconds since 1970.
        careful: Look up every id first, as after a flush that met one of them in Postgres.
        whole: Decide it in one piece, without cuts, however much the rules take of it.
        known: What Postgres was found to know of ids just now; None of those that are free.
    """

    def __init__(
        self,
        book: Book,
        batch: Batch,
        expiring: Sequence[bytes],
        time: int,
        *,
        careful: bool = False,
        whole: bool = False,
        known: Mapping[bytes, IdRecord | None] | None = None,
    ) -> None:
        self._book = book
        self._batch = batch
        self._expiring = expiring
        self._careful = careful
        self._time = time
        self._knowledge = Knowledge(book, expiring, known or {})
        self._forms = Forms(batch)
        self._sorter = Sorter(
            book, batch, self._forms, expiring, time, careful=careful, whole=whole
        )
        # The accounts that requests name, and how many accounts the book had when they were found.
        self._named: tuple[Slots, Slots] | None = None
        self._accounts_then = -1
        # What is sorted and decided, until something is learnt by which it may be otherwise.
        self._sorted: Sorted | None = None
        self._draft: Draft | None = None
        self._checked = False
        self._locks_by_sums: dict[int, set[int]] = {}
        # Requests that went to the rules since columns found no answer.
        self._given_up = np.zeros(len(batch.rows), bool)

    @property
    def cuts(self) -> list[int]:
        """Where the batch is to be cut and decided in `parts`; mostly nowhere."""
        return [] if self._sorted is None else self._sorted.cuts

    @property
    def locks(self) -> dict[int, set[int]]:
        """By entry, the shards whose owners must be locked to decide it; `EXPIRY` for a hold.

        Empty where all can be decided here.
        """
        if self._checked:
            return self._locks_by_sums
        return {} if self._sorted is None else self._sorted.locks

    def advance(self) -> Missing | None:
        """Go on as far as possible; returns what is missing, or None when all is here."""
        while True:
            if self._sorted is None:
                missing = self._sort()
                if missing is not None:
                    return missing
                continue
            if self._sorted.cuts or self._sorted.locks:
                return None
            if self._draft is None:
                self._draft = self._decide(self._sorted)
                continue
            missing = self._check_refusals(self._sorted, self._draft)
            if missing is not None or self._checked:
                return missing

    def supply(self, found: Found) -> None:
        """Take in what was looked up; ids of which nothing was found are free."""
        self._book.add_accounts(found.accounts)
        met = len(found.accounts.ids) > 0
        if found.refreshed:
            others = np.array(found.others, np.int64).T
            self._book.refresh_others(np.array(found.refreshed, np.int64), others)
        learnt = self._knowledge.learn(found.ids, found.records)
        # That an id is free changes nothing of a draft, which was decided as if it were.
        if learnt or met or found.refreshed or self._draft is None:
            self._sorted = self._draft = None

    def _ask_ids(self, wanted: set[bytes]) -> Missing | None:
        """Ask for what is not known of ids; what is under way is known, and taken in."""
        lookup = self._knowledge.ask_ids(wanted)
        if lookup.learnt:
            self._sorted = self._draft = None
        return lookup.missing

    def _find_accounts(self) -> tuple[Slots, Slots]:
        """The accounts that requests name."""
        if self._named is None or self._accounts_then != self._book.accounts:
            words = self._batch.words
            self._accounts_then = self._book.accounts
            self._named = (
                self._book.find_accounts(words[:, 2:4]),
                self._book.find_accounts(words[:, 4:6]),
            )
        return self._named

    def _sort(self) -> Missing | None:
        """Sort by what is known; what the rules need and is not known is asked for.

        It is sorted once nothing was learnt meanwhile.
        """
        rows, named = self._batch.rows, self._find_accounts()
        unknown: set[bytes] = set()
        for slots, name in zip(named, ("debit_account_id", "credit_account_id"), strict=True):
            unknown.update(rows[name][slots < 0].tolist())
        missing = self._knowledge.ask_accounts(unknown - {ID_ZERO, ID_MAX})
        if missing is not None:
            return missing
        known = len(self._knowledge.records)
        found = self._sorter.sort_batch(named, self._knowledge.records, self._given_up)
        missing = self._ask_ids(found.ids) or self._knowledge.ask_accounts_of(found.holds)
        if missing is None and len(self._knowledge.records) == known:
            self._sorted = found
        return missing

    def parts(self) -> Iterator["Decider"]:
        """The batch in parts, each to be finished before the next is taken."""
        places = [0, *self.cuts, len(self._batch.rows)]
        for start, stop in pairwise(places):
            yield Decider(
                self._book,
                self._batch.part(start, stop),
                self._expiring if start == 0 else (),
                self._time,
                careful=self._careful,
                known=self._knowledge.records,
            )

    # Deciding.

    def _decide(self, found: Sorted) -> Draft | None:
        """Decide; None where the rules have to take more of it."""
        rows = np.flatnonzero(found.rules)
        page, slots = self._make_page(found)
        outcomes, leg_places = run_rules(page, self._batch, rows, self._expiring, self._time)
        moves = find_moves(self._batch, self._forms, found.columns, (found.debit, found.credit))
        resolves = found.resolves
        given = given_legs(page, slots, leg_places, moves, resolves)
        limited = find_refusals(self._book, moves, given)
        if limited is None:
            # No set reproduced itself: the rules take all that touches a limit.
            flags = self._book.flags
            self._given_up = (flags[found.debit] | flags[found.credit]) != 0
            self._sorted = None
            return None
        outcomes[moves.rows] = limited.outcomes
        lacking = np.zeros(len(outcomes), np.int64)
        lacking[moves.rows] = limited.lacking
        ended = np.ones(len(resolves.rows), bool)
        here = resolves.made >= 0
        ended[here] = outcomes[resolves.made[here]] == 0
        outcomes[resolves.rows[~ended]] = Outcome.pending_transfer_not_found
        outcomes[found.repeats] = Outcome.exists
        self._repeat_outcomes(outcomes, ~found.rules)
        created = moves.part(limited.outcomes == 0)
        legs, order = all_legs(created, given.part(given.happening(limited.outcomes)))
        return Draft(
            page=page,
            slots=slots,
            moves=created,
            resolves=resolves.part(ended),
            legs=legs,
            order=order,
            outcomes=outcomes,
            lacking=lacking,
            by_rules=found.rules,
            debit=found.debit,
            credit=found.credit,
        )

    def _repeat_outcomes(self, outcomes: npt.NDArray[np.uint8], plain: Mask) -> None:
        """A request that repeats one of this batch exists, or has failed already."""
        first = self._forms.first
        rows = np.flatnonzero(plain & (first != np.arange(len(first))))
        created = outcomes[first[rows]] == 0
        outcomes[rows] = np.where(created, Outcome.exists, Outcome.id_already_failed)

    def _make_page(self, found: Sorted) -> tuple[Page, dict[bytes, int]]:
        """What the rules need to decide their requests, and the slots of its accounts."""
        book = self._book
        places = {*found.debit[found.rules].tolist(), *found.credit[found.rules].tolist()}
        ids = accounts_of(found.holds)
        if ids:
            words = words_of(np.frombuffer(b"".join(ids), "V16"))
            places.update(book.find_accounts(words).tolist())
        places.discard(-1)
        accounts, slots = {}, {}
        found_at = np.fromiter(places, np.int64, len(places))
        for slot, account in zip(places, book.accounts_at(found_at), strict=True):
            account.exact &= bool(found.dependents[slot])
            accounts[account.id] = account
            slots[account.id] = slot
        records = {
            transfer_id: msgspec.structs.replace(record)
            for transfer_id, record in self._knowledge.records.items()
            if record is not None
        }
        return Page(accounts, records), slots

    def _check_refusals(self, found: Sorted, draft: Draft) -> Missing | None:
        """Ask what a refusal rests on: that the id is free, and that the account is short."""
        refused = ~draft.by_rules & (draft.outcomes != 0) & (draft.outcomes != Outcome.exists)
        missing = self._ask_ids(set(self._batch.rows["id"][refused].tolist()))
        if missing is None and self._draft is not None:
            missing = self._knowledge.ask_refresh(self._batch, self._forms, found, draft.outcomes)
            self._checked = missing is None
            if self._checked:
                self._locks_by_sums = find_locks_by_sums(
                    self._book, self._batch, draft.moves, draft.legs, draft.outcomes
                )
        return missing

    def finish_batch(self) -> Decision:
        """Take the decision into the book; `advance` has returned None."""
        if self._draft is None or not self._checked:
            raise InvariantBroken("a batch is finished before it is decided")
        decision = lay_out(self._book, self._batch, self._draft, self._time)
        self._book.note_decision(decision)
        return decision
