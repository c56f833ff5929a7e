"""From decisions to postings: each leg with its version and the counters after it."""

from collections.abc import Sequence

import numpy as np

from engine.book.book import (
    CREDITS_PENDING,
    CREDITS_POSTED,
    DEBITS_PENDING,
    DEBITS_POSTED,
    Book,
)
from engine.book.columns import NO_POSTINGS, Decision, Postings
from engine.book.runs import joined, run_lengths, run_starts


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
    slots = keys >> 24
    first = run_starts(slots)
    run = run_lengths(first, count)
    last = first + run - 1
    heads = slots[first]
    runs = np.zeros(count, np.int64)
    runs[last] = run
    versions = np.arange(1, count + 1) + np.repeat(book.version[heads] - first, run)
    book.version[heads] += run
    # The book is at the end of the flush: the counters before it follow backwards.
    changes = np.zeros((4, count), np.int64)
    counters = np.empty((4, count), np.int64)
    for kind in range(4):
        after = book.own[kind, heads]
        if deltas[kind].any():
            changes[kind] = deltas[kind, order]
            sums = np.cumsum(changes[kind])
            counters[kind] = sums + np.repeat(after - sums[last], run)
        else:
            counters[kind] = np.repeat(after, run)
    book.mark_near_overflow(heads)
    return Postings(
        stripe=book.stripe[slots],
        version=versions,
        run=runs,
        transfer_id=transfers[order],
        amount=changes[CREDITS_POSTED] - changes[DEBITS_POSTED],
        pending_amount=changes[CREDITS_PENDING] - changes[DEBITS_PENDING],
        counters=counters,
    )
