"""The last act before COMMIT: what a decision rests on is still so.

Two workers might each decline for want of what the other is just committing, which no order of
the two explains. So whoever declines on accounts that others can credit, or moves their balance,
queues up for one lock, which ends with the transaction, and reads in the next statement what came
in between.
"""

from collections.abc import Sequence

import numpy as np

from engine.book.book import CREDITS_PENDING, CREDITS_POSTED, DEBITS_PENDING, DEBITS_POSTED
from engine.book.columns import Decision
from engine.errors import FundsArrivedError
from engine.store.connections import Connections


async def check_assumptions(connections: Connections, decided: Sequence[Decision]) -> None:
    """See that no account which was short has enough by now, and no moved balance has changed.

    Args:
        connections: On whose writing connection the flush is under way.
        decided: All of the flush.

    Raises:
        FundsArrivedError: One has.
    """
    assumptions = [decision.assumptions for decision in decided]
    numbers = np.concatenate([each.numbers for each in assumptions])
    wanted, at = np.unique(numbers, return_inverse=True)
    await connections.write("queue_to_decline")
    rows = await connections.write("other_stripes", wanted.tolist())
    found = {row["number"]: row["others"] for row in rows}
    # Python's integers: near the end of the counters a difference of two needs 65 bits.
    others = np.array([found[number] for number in wanted.tolist()], object).T[:, at]
    posted = others[CREDITS_POSTED] - others[DEBITS_POSTED]
    available = np.where(
        np.concatenate([each.debits for each in assumptions]),
        posted - others[DEBITS_PENDING],
        -posted - others[CREDITS_PENDING],
    )
    arrived = available - np.concatenate([each.available for each in assumptions])
    lacking = np.concatenate([each.lacking for each in assumptions])
    changed = np.unique(numbers[np.where(lacking > 0, arrived >= lacking, arrived != 0)])
    if len(changed):
        raise FundsArrivedError(f"others have changed {len(changed)} balances that were relied on")
