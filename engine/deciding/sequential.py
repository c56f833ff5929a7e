"""The sequential rules, let loose on those requests of a batch that columns cannot decide."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from engine.deciding.batch import Batch, Ints
from engine.errors import InvariantBroken
from engine.ledger.page import HoldStatus, Page
from engine.ledger.rules import decide_batch, expire_hold
from engine.wire.layout import rows_to_transfers


def run_rules(
    page: Page, batch: Batch, rows: Ints, due: Sequence[bytes], time: int
) -> tuple[npt.NDArray[np.uint8], list[Ints]]:
    """Let the holds lapse that are due, then decide some requests, entry by entry.

    Args:
        page: All that they need; what they change stands on it.
        batch: The requests.
        rows: Places of those to decide, ascending.
        due: Ids of holds, earliest first.
        time: Microseconds since 1970.

    Returns:
        Outcomes (of the other requests 0), and for each leg of the page its request, -1 for a
        lapse.
    """
    outcomes = np.zeros(len(batch.rows), np.uint8)
    if not (len(rows) or due):
        return outcomes, []
    for hold_id in due:
        hold = page.known(hold_id)
        if hold is not None and hold.status is HoldStatus.pending:
            if not 0 < hold.expires_at <= time:
                raise InvariantBroken(f"hold {hold_id.hex()} is not due")
            expire_hold(page, hold)
    leg_rows = [np.full(len(page.legs), -1)]
    cuts = np.flatnonzero(np.diff(batch.entries[rows])) + 1
    for part in np.split(rows, cuts) if len(rows) else ():
        transfers = rows_to_transfers(batch.rows[part])
        before = len(page.legs)
        shard = int(batch.shards[part[0]])
        outcomes[part] = decide_batch(page, transfers, shard, time)
        leg_rows.append(part[[leg.at for leg in page.legs[before:]]])
    return outcomes, leg_rows
