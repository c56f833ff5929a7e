"""From decisions to postings: the legs of each stripe in runs, with the counters after each."""

from collections.abc import Sequence
from typing import Final

import numpy as np

from engine.book.book import (
    CREDITS_PENDING,
    CREDITS_POSTED,
    DEBITS_PENDING,
    DEBITS_POSTED,
    Book,
)
from engine.book.columns import NO_POSTINGS, Decision, Postings
from engine.book.runs import Ints, joined, run_lengths, run_starts

RUN_POSTINGS_MAX: Final = 48
"""Postings of one run, which is a row: so many with pending amounts stay below 2,000 bytes."""


def post_decisions(book: Book, decisions: Sequence[Decision]) -> Postings:
    """The postings of a flush; the versions of its stripes go up in the book.

    Args:
        book: Has taken in these decisions, and none after them.
        decisions: All that goes into the flush, in order.
    """
    slots = joined([decision.slots for decision in decisions])
    count = len(slots)
    if not count:
        return NO_POSTINGS
    deltas = decisions[0].deltas
    if len(decisions) > 1:
        deltas = np.concatenate([decision.deltas for decision in decisions], axis=1)
    transfers = joined([decision.transfer_ids() for decision in decisions])
    # One sort of plain integers: by slot, then in the order in which it was decided.
    keys = np.sort((slots << 24) | np.arange(count))
    order = keys & 0xFFFFFF
    first = run_starts(keys >> 24)
    length = run_lengths(first, count)
    slots = (keys >> 24)[first]
    versions = book.version[slots]
    book.version[slots] += length
    ends, stripes = _cut(first, length)
    # The book is at the end of the flush: what was before follows backwards.
    last = (first + length - 1)[stripes]
    changes = np.zeros((4, count), np.int64)
    counters = book.own[:, slots[stripes]]
    for kind in range(4):
        if deltas[kind].any():
            changes[kind] = deltas[kind, order]
            if len(ends) == count:
                continue  # Each is a run by itself: the book has what is after it.
            sums = np.cumsum(changes[kind])
            counters[kind] -= sums[last] - sums[ends - 1]
    book.mark_near_overflow(slots)
    return Postings(
        transfer_id=transfers[order],
        amount=changes[CREDITS_POSTED] - changes[DEBITS_POSTED],
        pending_amount=changes[CREDITS_PENDING] - changes[DEBITS_PENDING],
        is_debit=order & 1 == 0,  # legs come in pairs, the debit first
        ends=ends,
        stripe=book.stripe[slots][stripes],
        version=(versions - first)[stripes] + ends,
        counters=counters,
    )


def _cut(first: Ints, length: Ints) -> tuple[Ints, Ints]:
    """Runs of no more than `RUN_POSTINGS_MAX`: where they end, and of which stripe each is.

    Args:
        first: Where the postings of each stripe begin.
        length: How many they are.
    """
    pieces = -(-length // RUN_POSTINGS_MAX)
    stripes = np.repeat(np.arange(len(first)), pieces)
    piece = np.arange(1, len(stripes) + 1) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    return first[stripes] + np.minimum(piece * RUN_POSTINGS_MAX, length[stripes]), stripes
