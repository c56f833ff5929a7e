"""Which moves break the limit of an account: all accounts of a batch at once.

Theory of operation. One by one, each move would be judged by the balance that those before it
left. To judge all of them at once, suppose a set of refusals. The running balance of every account
with a limit follows by one cumulative sum, and from it the set of moves that would be refused. If
that is the set supposed, it is the answer: by induction over the order of requests no other set
reproduces itself. If not, suppose the set found and look again. The first move on which a set was
wrong is right in the next, so it ends, mostly after two or three rounds; after `ROUNDS_MAX` the
rules decide instead.

- There are two machines alike, a `_Side` each: accounts whose debits are limited, and accounts
  whose credits are. A move can stand in both.
- A side is one column of changes, sorted by account and then by place in the batch: what is spent,
  what is earned, and what is given (by the rules, by ends of holds). What is given counts from its
  place on and cannot be refused; but it does not happen where the hold that it ends is refused.
- What makes it awkward: the moves of a linked chain are refused together, by the first of them
  that breaks a limit. Each is judged as if those before it in the chain were created, whatever is
  supposed of the chain as a whole (`_within_chains`).
"""

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from engine.book.book import CREDITS_PENDING, CREDITS_POSTED, DEBITS_PENDING, DEBITS_POSTED, Book
from engine.book.id_table import Slots
from engine.book.runs import run_lengths, run_starts
from engine.deciding.batch import PENDING, Batch, Ints, Mask
from engine.deciding.forms import Forms
from engine.ledger.nouns import AccountFlags
from engine.ledger.outcomes import Outcome

ROUNDS_MAX: Final = 16

DEBIT_LIMIT: Final = int(AccountFlags.debits_must_not_exceed_credits)
CREDIT_LIMIT: Final = int(AccountFlags.credits_must_not_exceed_debits)


class Legs(NamedTuple):
    """Changes of accounts, in columns: at which request, of which account, by how much."""

    rows: Ints
    slots: Slots
    deltas: Ints
    """Shape (4, legs): the four counters."""
    needs: Ints
    """Of each leg, the move without which it does not happen; -1 for none."""

    def happening(self, outcomes: npt.NDArray[np.uint8]) -> Mask:
        """Those that happen, given the outcomes of the moves."""
        happening = self.needs < 0
        happening[~happening] = outcomes[self.needs[~happening]] == 0
        return happening

    def part(self, mask: Mask) -> "Legs":
        """Those of `mask`."""
        if mask.all():
            return self
        return Legs(self.rows[mask], self.slots[mask], self.deltas[:, mask], self.needs[mask])


class Moves(NamedTuple):
    """Moves and holds in order, in columns as long as there are any."""

    rows: Ints
    """Their places in the batch, ascending."""
    debit: Slots
    credit: Slots
    amount: Ints
    pending: Mask
    unit: Ints
    """Of each, the first of its linked chain: itself where it stands alone."""

    def part(self, mask: Mask) -> "Moves":
        """Those of `mask`."""
        if mask.all():
            return self
        return Moves(
            self.rows[mask],
            self.debit[mask],
            self.credit[mask],
            self.amount[mask],
            self.pending[mask],
            self.unit[mask],
        )


def find_moves(batch: Batch, forms: Forms, columns: Mask, slots: tuple[Slots, Slots]) -> Moves:
    """The moves and holds among the requests that columns decide.

    Args:
        batch: The requests.
        forms: What they are.
        columns: Which of them are moves and holds that columns decide.
        slots: Of the debit and the credit account of each request.
    """
    rows = np.flatnonzero(columns)
    unit = np.arange(len(rows))
    if forms.chained.any():
        chained = forms.chained[rows]
        unit[chained] = np.searchsorted(rows, forms.together[rows][chained])
    return Moves(
        rows,
        slots[0][rows],
        slots[1][rows],
        batch.rows["amount_low"][rows].astype(np.int64),
        batch.rows["flags"][rows] & PENDING != 0,
        unit,
    )


class _Side:
    """The accounts limited on one side, with everything that happens to them in order."""

    def __init__(self, book: Book, moves: Moves, given: Legs, limit: int) -> None:
        debits = limit == DEBIT_LIMIT
        limited, other = (moves.debit, moves.credit) if debits else (moves.credit, moves.debit)
        flags = book.flags
        spends = np.flatnonzero(flags[limited] & limit)
        earns = np.flatnonzero((flags[other] & limit != 0) & ~moves.pending)
        gets = np.flatnonzero(flags[given.slots] & limit)
        self.spends = spends
        self._moves = len(moves.rows)
        if not len(spends):
            return
        # What an account has to spend is what the other side posted less its own side.
        plus, minus, held = (
            (CREDITS_POSTED, DEBITS_POSTED, DEBITS_PENDING)
            if debits
            else (DEBITS_POSTED, CREDITS_POSTED, CREDITS_PENDING)
        )
        deltas = given.deltas[:, gets]
        slots = np.concatenate([limited[spends], other[earns], given.slots[gets]])
        at = np.concatenate([moves.rows[spends], moves.rows[earns], given.rows[gets]])
        change = np.concatenate(
            [
                -moves.amount[spends],
                moves.amount[earns],
                deltas[plus] - deltas[minus] - deltas[held],
            ]
        )
        # By account, then in order; what was set free before a request counts for it.
        order = np.argsort((slots << 24) | ((at + 1) << 1) | (change < 0))
        self._change = change[order]
        self._move = np.concatenate([spends, earns, given.needs[gets]])[order]
        slots = slots[order]
        self._first = run_starts(slots)
        self._run = run_lengths(self._first, len(slots))
        heads = slots[self._first]
        total = book.own[:, heads] + book.others[:, heads]
        self._before = total[plus] - total[minus] - total[held]
        self._spending = np.flatnonzero(order < len(spends))
        self._ahead = self._within_chains(moves.unit, slots)

    def _within_chains(self, unit: Ints, slots: Slots) -> Ints | None:
        """What of the same chain happens to the same account before each of these."""
        if np.array_equal(unit, np.arange(len(unit))):
            return None
        units = np.where(self._move >= 0, unit[self._move], -1 - np.arange(len(slots)))
        first = run_starts(slots, units)
        sums = np.cumsum(self._change) - self._change
        ahead: Ints = sums - np.repeat(sums[first], run_lengths(first, len(slots)))
        return ahead

    def refused(self, refused: Mask) -> Mask:
        """Which moves would break a limit, were those of `refused` not created."""
        breaks = np.zeros(len(refused), bool)
        if not len(self.spends):
            return breaks
        happens = self._move < 0
        happens |= ~refused[self._move]
        change = np.where(happens, self._change, 0)
        sums = np.cumsum(change)
        ahead = sums - change
        available = ahead + np.repeat(self._before - ahead[self._first], self._run)
        at = self._spending
        if self._ahead is not None:
            available += np.where(happens, 0, self._ahead)
        self._left = available[at] + self._change[at]
        breaks[self._move[at]] = self._left < 0
        return breaks

    def lacking(self) -> Ints:
        """By how much each move broke the limit when last looked at; else 0 or less."""
        lacking = np.zeros(self._moves, np.int64)
        if len(self.spends):
            lacking[self._move[self._spending]] = -self._left
        return lacking


class LimitOutcomes(NamedTuple):
    """What becomes of moves, in columns as long as there are any."""

    outcomes: npt.NDArray[np.uint8]
    lacking: Ints
    """What an account that was short would have needed more; else 0."""


def find_refusals(book: Book, moves: Moves, given: Legs) -> LimitOutcomes | None:
    """What becomes of moves whose accounts' limits are all that can refuse them.

    Args:
        book: The balances before the batch.
        moves: The moves and holds.
        given: What else happens to accounts with limits, and cannot be refused.

    Returns:
        What becomes of each move; None when no set was found that reproduces itself in
        `ROUNDS_MAX` rounds.
    """
    debits = _Side(book, moves, given, DEBIT_LIMIT)
    credits_ = _Side(book, moves, given, CREDIT_LIMIT)
    refused = np.zeros(len(moves.rows), bool)
    for _ in range(ROUNDS_MAX):
        over_credits = debits.refused(refused)
        breaks = over_credits | credits_.refused(refused)
        if not (breaks.any() or refused.any()):
            return LimitOutcomes(np.zeros(len(refused), np.uint8), np.zeros(len(refused), np.int64))
        found = np.zeros(len(refused), bool)
        found[moves.unit[breaks]] = True
        found = found[moves.unit]
        if np.array_equal(found, refused):
            outcomes = np.where(found, np.uint8(Outcome.linked_event_failed), np.uint8(0))
            broken = np.flatnonzero(breaks)
            first = broken[np.unique(moves.unit[broken], return_index=True)[1]]
            outcomes[first] = np.where(
                over_credits[first], Outcome.exceeds_credits, Outcome.exceeds_debits
            )
            lacking = np.zeros(len(refused), np.int64)
            if len(first):
                short = np.where(over_credits, debits.lacking(), credits_.lacking())
                lacking[first] = short[first]
            return LimitOutcomes(outcomes, lacking)
        refused = found
    return None
