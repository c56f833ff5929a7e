"""What must be true of every flush, checked at the last moment before it is final."""

from collections.abc import Sequence

import numpy as np

from engine.book.columns import Decision, Postings
from engine.errors import InvariantBroken
from engine.worker.bounds import FLUSH_ROWS_MAX


def check_flush(decided: Sequence[Decision], posted: Postings) -> None:
    """Money is neither made nor lost in a flush, nothing is posted twice, and all fits.

    Args:
        decided: The parts of the flush.
        posted: Its postings.

    Raises:
        InvariantBroken: Amounts do not sum to zero, legs are not twice what was created and
            expired, or there are more rows than have numbers.
    """
    created = sum(len(part.spent) for part in decided)
    refused = sum(len(part.refused.requests) for part in decided)
    expired = sum(len(part.expiries) for part in decided)
    ends = sum(len(part.resolutions.hold_ids) for part in decided)
    rows = max(created + refused, len(posted), ends)
    if rows > FLUSH_ROWS_MAX:
        raise InvariantBroken(f"a flush of {rows} rows: {FLUSH_ROWS_MAX} have numbers")
    if len(posted) != 2 * (created + expired):
        raise InvariantBroken(
            f"{len(posted)} postings of {created} transfers and {expired} expiries",
        )
    # Both legs of a transfer are in one ledger, so what sums to zero sums to zero in each.
    for name, amounts in (("posted", posted.amount), ("pending", posted.pending_amount)):
        total = int(np.sum(amounts))
        if total:
            raise InvariantBroken(f"the {name} amounts of a flush sum to {total}")
