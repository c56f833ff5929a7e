"""Which plain requests break the limit of an account: all accounts of a batch at once.

Suppose a set of refusals; the running balance of every account with a limit follows, and
from it which requests would be refused, each judged by what was created before it. Where
that is the set supposed, it is the answer: by induction over the order of requests no other
set reproduces itself. Otherwise suppose the set found, and look again.
"""

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from engine.book import CREDITS_PENDING, CREDITS_POSTED, DEBITS_PENDING, DEBITS_POSTED, Book
from engine.id_table import Slots
from engine.nouns import AccountFlags

ROUNDS_MAX: Final = 16

DEBIT_LIMIT: Final = int(AccountFlags.debits_must_not_exceed_credits)
CREDIT_LIMIT: Final = int(AccountFlags.credits_must_not_exceed_debits)

Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


class Legs(NamedTuple):
    """Changes of accounts, in columns: at which request, of which account, by how much."""

    rows: Ints
    slots: Slots
    deltas: Ints
    """Shape (4, legs): the four counters."""


class Moves(NamedTuple):
    """Plain requests in order: `rows` are their places in the batch, ascending."""

    rows: Ints
    debit: Slots
    credit: Slots
    amount: Ints
    pending: Mask


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
        self._move = np.concatenate([spends, earns, np.full(len(gets), -1)])[order]
        slots = slots[order]
        self._first = np.flatnonzero(np.r_[True, slots[1:] != slots[:-1]])
        self._run = np.diff(np.r_[self._first, len(slots)])
        heads = slots[self._first]
        total = book.own[:, heads] + book.others[:, heads]
        self._before = total[plus] - total[minus] - total[held]
        self._spending = np.flatnonzero(order < len(spends))

    def refused(self, refused: Mask) -> Mask:
        """Which moves would break a limit, were those of `refused` not created."""
        breaks = np.zeros(len(refused), bool)
        if not len(self.spends):
            return breaks
        happens = self._move < 0
        happens |= ~refused[self._move]
        change = np.where(happens, self._change, 0)
        sums = np.cumsum(change)
        starts = np.r_[0, sums[self._first[1:] - 1]]
        available = sums - change + np.repeat(self._before - starts, self._run)
        at = self._spending
        breaks[self._move[at]] = available[at] + self._change[at] < 0
        return breaks


def find_refusals(book: Book, moves: Moves, given: Legs) -> tuple[Mask, Mask] | None:
    """Which moves are refused for want of credits, and of the others which for want of debits.

    Args:
        book: The balances before the batch.
        moves: The plain requests.
        given: What else happens to accounts with limits, and cannot be refused.

    Returns:
        Two masks over the moves; None when no set was found that reproduces itself in
        `ROUNDS_MAX` rounds.
    """
    debits = _Side(book, moves, given, DEBIT_LIMIT)
    credits_ = _Side(book, moves, given, CREDIT_LIMIT)
    refused = np.zeros(len(moves.rows), bool)
    for _ in range(ROUNDS_MAX):
        over_credits = debits.refused(refused)
        over_debits = credits_.refused(refused)
        found = over_credits | over_debits
        if np.array_equal(found, refused):
            return over_credits, over_debits & ~over_credits
        refused = found
    return None
