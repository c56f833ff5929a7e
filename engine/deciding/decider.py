"""Deciding a batch in columns, and by the sequential rules what columns cannot decide.

Columns decide moves and holds, alone or in linked chains, and posts and voids of open holds;
all that can refuse one of them is a limit. A move or hold that was created before and is sent again
exists. Whatever else there is (balancing, closing, anything malformed, other ids and holds that are
not what they should be) goes to the rules, on a page of objects, in order.

The two can depend on each other through the balance of an account that is *conditional*:
it has a limit, or is near overflow. Where the rules must know such a balance, all requests
on that account go to the rules as well, and so on to the accounts that these touch. Posts,
voids and lapses read no balance; what they set free counts for the moves that follow.

Nothing is waited for here: `advance` says what must be looked up first. Nothing changes in
the book until `finish`.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

from engine.book.book import Book
from engine.book.columns import Decision, kept_rows
from engine.book.id_table import words_of
from engine.deciding.batch import BALANCING, CLOSING, RESOLVING, Batch, Forms, Ints, Mask, Missing
from engine.deciding.dependents import find_dependents
from engine.deciding.limits import find_moves, find_refusals
from engine.deciding.locks import LocksNeeded
from engine.deciding.repeats import find_taken_ids
from engine.deciding.resolutions import NO_RESOLVES, Resolves, find_resolves, given_legs
from engine.deciding.results import Draft, lay_out
from engine.deciding.sequential import run_rules
from engine.ledger.nouns import ID_MAX, ID_ZERO
from engine.ledger.outcomes import Outcome
from engine.ledger.page import HoldStatus, IdRecord, Page

CUT_ROWS: Final = 100
"""So many requests by the rules are about as much work as a part of a batch in columns."""


class Decider:
    """One batch on its way to being decided.

    Args:
        book: The accounts.
        batch: The requests.
        due: Ids of holds that lapse before the first request, earliest first.
        time: Microseconds since 1970.
        careful: Look up every id first, as after a flush that met one of them in Postgres.
        known: What Postgres was found to know of ids just now; None of those that are free.
    """

    def __init__(
        self,
        book: Book,
        batch: Batch,
        due: Sequence[bytes],
        time: int,
        *,
        careful: bool = False,
        known: Mapping[bytes, IdRecord | None] | None = None,
    ) -> None:
        self._book = book
        self._batch = batch
        self._due = due
        self._careful = careful
        self._known_before = known or {}
        self._lapsing = frozenset(due)
        self._time = time
        # What became of ids that were looked up; None for those that are free.
        self._looked_up: dict[bytes, IdRecord | None] = {}
        self._asked: set[bytes] = set()
        self._refreshed: set[int] = set()
        self._accounts_then = -1
        self._forms = Forms(batch)
        self._seen = book.seen(batch.words[:, 0:2]) | careful
        self.cuts: list[int] = []
        """Where the batch is to be cut and decided in `parts`, since the rules would otherwise
        have to take much of it for the sake of a few requests; mostly empty."""
        self._draft: Draft | None = None
        """What is decided, until something is learnt on which it may have to be decided anew."""
        # Requests that went to the rules since columns found no answer.
        self._given_up = np.zeros(len(batch.rows), bool)

    # Looking up.

    def advance(self) -> Missing | None:
        """Go on as far as possible; returns what is needed first, or None when all is here."""
        if self._draft is None:
            needs = self._find_accounts() or self._sort() or self._find_hold_accounts()
            if needs is not None or self.cuts or self.locks():
                return needs
            self._draft = self._decide()
        return self.advance() if self._draft is None else self._check(self._draft)

    def supply(self, ids: Sequence[bytes], known: Sequence[IdRecord]) -> None:
        """Take in what Postgres knows of ids that were needed; the others are free."""
        for one in ids:
            self._looked_up[one] = None
        self._learn(known)
        free = set(ids) - {one.transfer.id for one in known}
        self._learn(self._book.lately(free & self._lapsing).values())

    def _learn(self, known: Iterable[IdRecord]) -> None:
        open_here = []
        for found in known:
            learnt = found
            if found.status is HoldStatus.pending:
                # Postgres does not show yet how a flush under way ends a hold.
                status = self._book.resolved_lately(found.transfer.id) or found.status
                learnt = msgspec.structs.replace(found, status=status)
                if status is HoldStatus.pending and self._book.owned[found.shard]:
                    open_here.append(found)
            self._looked_up[found.transfer.id] = learnt
            self._draft = None
        self._book.holds.add(kept_rows(open_here))

    def _find_accounts(self) -> Missing | None:
        words = self._batch.words
        if self._accounts_then != self._book.accounts:
            self._accounts_then = self._book.accounts
            self._named = self._book.find(words[:, 2:4]), self._book.find(words[:, 4:6])
        unknown: set[bytes] = set()
        for slots, name in zip(self._named, ("debit_account_id", "credit_account_id"), strict=True):
            unknown.update(self._batch.rows[name][slots < 0].tolist())
        unknown -= {ID_ZERO, ID_MAX}
        return self._ask_accounts(unknown)

    def _ask_accounts(self, unknown: set[bytes]) -> Missing | None:
        unknown -= self._asked
        self._asked |= unknown
        return Missing(list(unknown), [], []) if unknown else None

    def _sort(self) -> Missing | None:
        """Sort the requests into those for columns and those for the rules.

        Returns:
            Ids that the rules must know, where there are such.
        """
        book, rows, forms = self._book, self._batch.rows, self._forms
        self._debit, self._credit = debit, credit = self._named
        found = (debit >= 0) & (credit >= 0)
        plain = forms.moves & found & (debit != credit)
        plain &= ~(book.closed[debit] | book.closed[credit])
        plain &= (book.ledger[debit] == rows["ledger"]) & (book.ledger[credit] == rows["ledger"])
        near = (book.near_overflow[debit] & (debit >= 0)) | (
            book.near_overflow[credit] & (credit >= 0)
        )
        exactly = forms.exactly | (near & found & (rows["flags"] & RESOLVING == 0))
        plain &= ~near
        self._resolves: Resolves | None = None
        if len(forms.resolving):
            resolves, good = find_resolves(book, self._batch, forms, self._time)
            plain[resolves.rows[good]] = True
            self._debit, self._credit = debit.copy(), credit.copy()
            self._debit[resolves.rows[good]] = resolves.debit[good]
            self._credit[resolves.rows[good]] = resolves.credit[good]
            self._resolves = resolves
        ids = find_taken_ids(self._batch, forms, plain, self._seen, self._looked_up)
        self._repeats = ids.repeats
        plain &= ~(self._given_up | ids.taken)
        self._exactly = exactly
        # A group of requests is decided by columns or by the rules, as a whole.
        broken = forms.whole(~plain) & forms.grouped
        self._plain = plain & ~broken
        self._in_order = exactly | broken | self._given_up
        rules = self._for_rules()
        self._spread(rules)
        self.cuts = self._find_cuts(rules)
        if self.cuts:
            rules = self._for_rules()
        wanted = {one for one in rows["id"][rules].tolist() if one != ID_ZERO}
        pending = forms.resolving[rules[forms.resolving]]
        wanted.update(one for one in rows["pending_id"][pending].tolist() if one != ID_ZERO)
        wanted.update(self._due)
        return self._ask_ids(wanted)

    def _for_rules(self) -> Mask:
        """Requests that columns cannot decide, whatever depends on them."""
        rules: Mask = ~(self._plain | self._repeats)
        return rules

    def _ask_ids(self, wanted: set[bytes]) -> Missing | None:
        missing = wanted - self._looked_up.keys()
        if missing:
            # Of a hold that lapses Postgres tells first: a flush under way may have taken its id
            # for a new one, and will be refused.
            lately = self._book.lately(missing - self._lapsing)
            self._learn(lately.values())
            missing -= lately.keys()
        before = missing & self._known_before.keys()
        if before:
            found = [self._known_before[one] for one in before]
            self.supply(list(before), [known for known in found if known is not None])
            missing -= before
        return Missing([], [], list(missing)) if missing else None

    def _find_cuts(self, rules: Mask) -> list[int]:
        """Between requests that must be decided in order and those that columns can decide.

        Not where locks may be needed, which must be known of an entry as a whole.
        """
        if not self._book.owns_all:
            return []
        cuts = np.flatnonzero(np.diff(self._in_order)) + 1
        return cuts.tolist() if len(cuts) * CUT_ROWS < np.count_nonzero(rules) else []

    def parts(self) -> Iterator["Decider"]:
        """The batch in parts, each to be finished before the next is taken."""
        places = [0, *self.cuts, len(self._batch.rows)]
        for start, stop in pairwise(places):
            yield Decider(
                self._book,
                self._batch.part(start, stop),
                self._due if start == 0 else (),
                self._time,
                careful=self._careful,
                known=self._looked_up,
            )

    def _holds(self) -> list[IdRecord]:
        """Holds that the rules may end."""
        resolving = self._forms.resolving[~self._plain[self._forms.resolving]]
        ids = set(self._batch.rows["pending_id"][resolving].tolist()) | set(self._due)
        known = (self._looked_up.get(one) for one in ids)
        return [one for one in known if one is not None and one.status]

    def _find_hold_accounts(self) -> Missing | None:
        ids: set[bytes] = set()
        for hold in self._holds():
            ids |= {hold.transfer.debit_account_id, hold.transfer.credit_account_id}
        if not ids:
            return None
        found = self._book.find(words_of(np.frombuffer(b"".join(ids), "V16")))
        return self._ask_accounts({one for one, slot in zip(ids, found, strict=True) if slot < 0})

    # What concerns other workers.

    def locks(self) -> dict[int, set[int]]:
        """By entry, the shards whose owners must be locked to decide it; -1 stands for a lapse.

        Empty where all can be decided here: debits at home, credits that nothing limits, and
        ends of holds that were decided here.
        """
        if self._book.owns_all:
            return {}
        elsewhere = LocksNeeded(self._book, self._batch, self._forms)
        elsewhere.add_moves(self._plain & self._forms.moves, self._debit, self._credit)
        rules = np.flatnonzero(self._for_rules())
        elsewhere.add_rules(rules, self._debit, self._credit, self._looked_up)
        elsewhere.add_expiries(self._due, self._looked_up)
        return elsewhere.locks

    # Deciding.

    def _decide(self) -> Draft | None:
        """Decide, on paper; None where the rules have to take more of it."""
        rules = self._for_rules()
        dirty = self._spread(rules)
        repeats = self._repeats & ~rules
        page, slots = self._make_page(np.flatnonzero(rules), dirty)
        outcomes, leg_rows = run_rules(
            page, self._batch, np.flatnonzero(rules), self._due, self._time
        )
        moves, resolves = (
            find_moves(self._batch, self._forms, ~(rules | repeats), (self._debit, self._credit)),
            self._ends(rules),
        )
        given = given_legs(page, slots, leg_rows, moves, resolves)
        decided = find_refusals(self._book, moves, given)
        if decided is None:
            # No set reproduced itself: the rules take all that touches a limit.
            limits = self._book.flags
            self._given_up = (limits[self._debit] | limits[self._credit]) != 0
            return None
        outcomes[moves.rows] = decided.outcomes
        lacking = np.zeros(len(outcomes), np.int64)
        lacking[moves.rows] = decided.lacking
        ended = np.ones(len(resolves.rows), bool)
        here = resolves.made >= 0
        ended[here] = outcomes[resolves.made[here]] == 0
        outcomes[resolves.rows[~ended]] = Outcome.pending_transfer_not_found
        outcomes[repeats] = Outcome.exists
        self._repeat(outcomes, ~rules)
        return Draft(
            page=page,
            slots=slots,
            moves=moves.part(decided.outcomes == 0),
            resolves=resolves.part(ended),
            given=given.part(given.happening(decided.outcomes)),
            outcomes=outcomes,
            lacking=lacking,
            by_rules=rules,
            debit=self._debit,
            credit=self._credit,
        )

    def _check(self, draft: Draft) -> Missing | None:
        """Look up what a refusal rests on: that the id is free, and that the account is short."""
        refused = ~draft.by_rules & (draft.outcomes != 0) & (draft.outcomes != Outcome.exists)
        needs = self._ask_ids(set(self._batch.rows["id"][refused].tolist()))
        if needs is None and self._draft is not None:
            needs = self._short(draft.outcomes)
            if needs is None:
                self._complete = draft
                return None
            self._draft = None
        # What was looked up lately may be known.
        return needs or self.advance()

    def _repeat(self, outcomes: npt.NDArray[np.uint8], plain: Mask) -> None:
        """A request that repeats one of this batch exists, or has failed already."""
        first = self._forms.first
        rows = np.flatnonzero(plain & (first != np.arange(len(first))))
        created = outcomes[first[rows]] == 0
        outcomes[rows] = np.where(created, Outcome.exists, Outcome.id_already_failed)

    def _short(self, outcomes: npt.NDArray[np.uint8]) -> Missing | None:
        """Accounts about to be found short, while others may have credited them since."""
        book = self._book
        if book.owns_all:
            return None
        slots: set[int] = set()
        for outcome, column in (
            (Outcome.exceeds_credits, self._debit),
            (Outcome.exceeds_debits, self._credit),
        ):
            slots.update(column[outcomes == outcome].tolist())
        balancing = np.flatnonzero(self._batch.rows["flags"] & BALANCING)
        slots.update(self._debit[balancing].tolist(), self._credit[balancing].tolist())
        numbers = {int(book.number[slot]) for slot in slots if slot >= 0 and book.mine[slot]}
        numbers -= self._refreshed
        self._refreshed |= numbers
        if not numbers:
            return None
        # Holds that were not found may have come with what is read now.
        pending = self._batch.rows["pending_id"][self._forms.resolving].tolist()
        again = {one for one in pending if self._looked_up.get(one, self) is None}
        return Missing([], list(numbers), list(again))

    def _spread(self, rules: Mask) -> Mask:
        """Accounts whose balance the rules must know; `rules` grows by what touches them."""
        return find_dependents(
            self._book,
            self._forms,
            (self._debit, self._credit),
            in_order=self._in_order,
            exactly=self._exactly,
            opening=[hold.transfer for hold in self._holds() if hold.transfer.flags & CLOSING],
            rules=rules,
        )

    def _ends(self, rules: Mask) -> Resolves:
        forms = self._forms
        found = self._resolves
        if found is None:
            return NO_RESOLVES
        return found.part(~rules[found.rows] & (forms.first[found.rows] == found.rows))

    def _make_page(self, rows: Ints, dirty: Mask) -> tuple[Page, dict[bytes, int]]:
        """What the rules need to decide these requests, and the slots of its accounts."""
        book = self._book
        found = {*self._debit[rows].tolist(), *self._credit[rows].tolist()}
        holds = [hold.transfer for hold in self._holds()]
        ids = {t.debit_account_id for t in holds} | {t.credit_account_id for t in holds}
        if ids:
            words = words_of(np.frombuffer(b"".join(ids), "V16"))
            found |= set(book.find(words).tolist())
        found.discard(-1)
        accounts, slots = {}, {}
        for slot in found:
            account = book.account(slot)
            account.exact &= bool(dirty[slot])
            accounts[account.id] = account
            slots[account.id] = slot
        known = {
            one: msgspec.structs.replace(what)
            for one, what in self._looked_up.items()
            if what is not None
        }
        return Page(accounts, known), slots

    def finish(self) -> Decision:
        """Take the decision into the book; `advance` has returned None."""
        decided = lay_out(self._book, self._batch, self._complete, self._time)
        self._book.note(decided)
        return decided
