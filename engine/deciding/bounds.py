"""What a draft would bring to stripes, and which of it must not be written without locks.

Workers write one account through stripes of their own and know of each other's only what they read
last. Two bounds keep every counter within its 64 bits all the same:

- A *foreign* stripe, one away from its account's home, stays between 0 and `FOREIGN_STRIPE_MAX`.
  What would leave that range goes by the lock of the account's owner, to the home stripe. So a hold
  that was made at home, or through another worker's stripe, is ended at home; else each such hold
  would drive two stripes further apart.
- What could bring a counter past `UNLOCKED_MAX` locks the owners of all shards, whose books are
  then loaded anew. So a book that does not know of it is nowhere near the end of a counter. That
  a counter would pass its end is said only under those locks. Whoever does not own the home knows
  of its stripe and of its own alone: all others together stay below 2^61, so what is past 2^62 in
  all is past `UNLOCKED_MAX` at home, and what is not known to be past it stays below 2^62.

Looked at once all is decided, whatever decided it; what is refused brings nothing.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

from engine.book.book import CREDITS_PENDING, CREDITS_POSTED, Book
from engine.book.counter_bounds import FOREIGN_STRIPE_MAX, UNLOCKED_MAX
from engine.book.id_table import Slots
from engine.deciding.batch import Batch, Ints, Mask
from engine.deciding.limits import Legs, Moves
from engine.deciding.locks import EXPIRY
from engine.ledger.nouns import COUNTER_MAX
from engine.ledger.outcomes import Outcome

_IS_OVERFLOW: Final = np.zeros(256, bool)
_IS_OVERFLOW[[int(o) for o in Outcome if o.name.startswith("overflows")]] = True

Sums = npt.NDArray[np.float64]
"""Large enough not to wrap, and exact up to 2^53, which is past `FOREIGN_STRIPE_MAX`."""


def find_locks_by_sums(
    book: Book, batch: Batch, moves: Moves, legs: Legs, outcomes: npt.NDArray[np.uint8]
) -> dict[int, set[int]]:
    """By entry, the shards whose owners must be locked for what it would bring; as `locks`.

    Args:
        book: As it is before.
        batch: The requests.
        moves: What columns move and hold.
        legs: All that is to be written, at which request: of these moves and of whatever else.
        outcomes: Of the requests.
    """
    if book.owns_all:
        return {}
    locks: dict[int, set[int]] = {}
    others = set(np.flatnonzero(~book.owned).tolist())
    for place in _overflowing(batch, outcomes).tolist():
        locks[int(batch.entries[place])] = set(others)
    if not len(legs.slots) or _is_small(book, moves, legs):
        return locks
    slots, at = np.unique(legs.slots, return_inverse=True)
    foreign = ~book.mine[slots]
    over = _leave_their_range(book, slots, at, legs) & foreign
    ends = _come_near_the_end(book, slots, at, legs)
    for leg in np.flatnonzero((over | ends)[at]).tolist():
        place, slot = int(legs.rows[leg]), int(legs.slots[leg])
        entry = EXPIRY if place < 0 else int(batch.entries[place])
        shards = others if ends[at[leg]] else {int(book.home[slot])}
        locks.setdefault(entry, set()).update(shards)
    return locks


def _overflowing(batch: Batch, outcomes: npt.NDArray[np.uint8]) -> Ints:
    """Places of requests that pass the end of a counter by what this book knows of it.

    An amount that is larger than any counter passes it anyway.
    """
    overflowing = _IS_OVERFLOW[outcomes]
    if not overflowing.any():
        return np.flatnonzero(overflowing)
    overflowing &= batch.rows["amount_high"] == 0
    overflowing &= batch.rows["amount_low"] <= np.uint64(COUNTER_MAX)
    return np.flatnonzero(overflowing)


def _is_small(book: Book, moves: Moves, legs: Legs) -> bool:
    """Whether there are only moves, which together are far from a bound on any stripe.

    Columns move nothing on accounts near their end, and debits are all at home.
    """
    if len(legs.slots) != 2 * len(moves.rows):
        return False
    away = moves.credit[~book.mine[moves.credit]]
    if not len(away):
        return True
    there = max(int(book.own[kind][away].max()) for kind in (CREDITS_PENDING, CREDITS_POSTED))
    # Each is below `LARGE`: their sum does not wrap.
    return there + int(moves.amount.sum()) <= FOREIGN_STRIPE_MAX


def _by_slot(at: Ints, values: Ints, count: int) -> Sums:
    return np.stack([np.bincount(at, weights=kind, minlength=count) for kind in values])


def _leave_their_range(book: Book, slots: Slots, at: Ints, legs: Legs) -> Mask:
    own = book.own[:, slots].astype(np.float64)
    gains = _by_slot(at, np.maximum(legs.deltas, 0), len(slots))
    losses = _by_slot(at, np.minimum(legs.deltas, 0), len(slots))
    over = (own + gains > FOREIGN_STRIPE_MAX) & (gains > 0)
    under = (own + gains + losses < 0) & (losses < 0)
    leave: Mask = np.logical_or.reduce(over | under, axis=0)
    return leave


def _come_near_the_end(book: Book, slots: Slots, at: Ints, legs: Legs) -> Mask:
    total = book.own[:, slots].astype(np.float64) + book.others[:, slots]
    gains = _by_slot(at, np.maximum(legs.deltas, 0), len(slots))
    near = (total + gains > UNLOCKED_MAX) & (gains > 0)
    come: Mask = np.logical_or.reduce(near, axis=0)
    return come
