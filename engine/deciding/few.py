"""A few plain transfers by the rules alone, where columns would cost more than there is to decide.

However few there are, columns cost 300 us of CPU a batch and more; the rules cost 5 us a transfer,
and to lay out what they need and what they made 60 us. So a few moves and holds, of which the book
knows all that they need, are given to the rules at once. Where these create all of them, that is
the decision, as columns would have it: the same rows in the same places. Where anything else may
come of one of them, nothing is said here and `decider` decides, with its look-ups and its locks.
"""

from typing import Final

import numpy as np

from engine.book.book import CREDITS_PENDING, CREDITS_POSTED, Book
from engine.book.columns import Decision
from engine.book.counter_bounds import FOREIGN_STRIPE_MAX, LARGE
from engine.book.id_table import Slots
from engine.deciding.batch import PENDING, Batch
from engine.deciding.limits import CREDIT_LIMIT, Moves
from engine.deciding.resolutions import held_rows
from engine.deciding.results import NO_ASSUMPTIONS, NO_REFUSALS, NO_RESOLUTIONS, legs_of_moves
from engine.ledger.nouns import Transfer
from engine.ledger.outcomes import Outcome
from engine.ledger.page import Page
from engine.ledger.rules import decide_batch
from engine.wire.layout import rows_to_transfers

FEW_TRANSFERS_MAX: Final = 16
"""Measured in CPU time, up to the draft and this: one transfer 238 us and 67, four 236 and 108, 16
of them 313 and 221; from 32 on columns are faster."""

_PLAIN: Final = (0, PENDING)

_NO_IDS: Final = np.empty(0, "V16")


def decide_few(book: Book, batch: Batch, time: int) -> Decision | None:
    """Decide, where all of it is created; the book is as it was. None where it is to be looked at.

    Args:
        book: The accounts.
        batch: The requests, before which no hold expires.
        time: Microseconds since 1970.
    """
    count = len(batch.rows)
    if not 0 < count <= FEW_TRANSFERS_MAX or batch.frozen is not None:
        return None
    transfers = rows_to_transfers(batch.rows)
    if not _are_plain(transfers) or book.seen.are_seen(batch.words[:, 0:2]).any():
        return None
    slots = book.find_accounts(batch.words[:, 2:6].reshape(-1, 2))
    if slots.min() < 0 or book.near_overflow[slots].any():
        return None
    amounts = np.array([t.amount for t in transfers])
    if not (book.owns_all or _are_free(book, slots[0::2], slots[1::2], amounts)):
        return None
    if not _are_created(book, batch, slots, transfers, time):
        return None
    places = np.arange(count)
    pending = np.array([t.flags == PENDING for t in transfers])
    moves = Moves(places, slots[0::2], slots[1::2], amounts, pending, places)
    spent = held_rows(batch, places, time)
    spent["debit_number"] = book.number[moves.debit]
    spent["credit_number"] = book.number[moves.credit]
    return Decision(
        spent=spent,
        refused=NO_REFUSALS,
        slots=slots,
        deltas=legs_of_moves(moves),
        spenders=np.repeat(places, 2),
        expiries=_NO_IDS,
        resolutions=NO_RESOLUTIONS,
        closings={},
        outcomes=np.zeros(count, np.uint8),
        assumptions=NO_ASSUMPTIONS,
    )


def _are_plain(transfers: list[Transfer]) -> bool:
    """Whether they are moves and holds that stand alone, each with an id of its own."""
    return len({t.id for t in transfers}) == len(transfers) and all(
        t.flags in _PLAIN and t.amount < LARGE for t in transfers
    )


def _are_free(book: Book, debit: Slots, credit: Slots, amounts: Slots) -> bool:
    """Whether nobody else must be asked or locked, as in `locks` and `bounds`."""
    if not book.mine[debit].all():
        return False
    away = credit[~book.mine[credit]]
    if not len(away):
        return True
    there = max(int(book.own[kind][away].max()) for kind in (CREDITS_PENDING, CREDITS_POSTED))
    is_within = there + int(amounts.sum()) <= FOREIGN_STRIPE_MAX
    return is_within and not (book.flags[away] & CREDIT_LIMIT).any()


def _are_created(
    book: Book, batch: Batch, slots: Slots, transfers: list[Transfer], time: int
) -> bool:
    """Whether the rules create all of them."""
    accounts = {}
    for account in book.accounts_at(slots):
        # What it has is known where it matters; how it stands between two loads is not.
        account.exact = False
        accounts[account.id] = account
    page = Page(accounts, {})
    # Each stands alone: it does not matter which are of one entry.
    return all(
        decide_batch(page, [transfer], shard, time) == [Outcome.created]
        for transfer, shard in zip(transfers, batch.shards.tolist(), strict=True)
    )
