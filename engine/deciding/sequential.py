"""The sequential rules, for those requests of a batch that columns cannot decide."""

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from engine.deciding.batch import Batch, Ints
from engine.errors import InvariantBroken
from engine.ledger.page import HoldStatus, Page
from engine.ledger.rules import decide_batch, expire_hold
from engine.wire.layout import rows_to_transfers

BEFORE_ALL: Final = -1
"""The place of what happens before the first request: expiries."""


def run_rules(
    page: Page, batch: Batch, rows: Ints, expiring: Sequence[bytes], time: int
) -> tuple[npt.NDArray[np.uint8], list[Ints]]:
    """Expire holds, then decide some requests, entry by entry.

    Args:
        page: All that they need; what they change stands on it.
        batch: The requests.
        rows: Places of those to decide, ascending.
        expiring: Ids of holds, earliest first; those that have ended are left alone.
        time: Microseconds since 1970.

    Returns:
        Outcomes (of the other requests 0), and the place in the batch of each leg of the page.
    """
    outcomes = np.zeros(len(batch.rows), np.uint8)
    if not (len(rows) or expiring):
        return outcomes, []
    for hold_id in expiring:
        hold = page.known(hold_id)
        if hold is not None and hold.status is HoldStatus.pending:
            if not 0 < hold.expires_at <= time:
                raise InvariantBroken(f"hold {hold_id.hex()} has not expired")
            expire_hold(page, hold)
    leg_places = [np.full(len(page.legs), BEFORE_ALL)]
    cuts = np.flatnonzero(np.diff(batch.entries[rows])) + 1
    for part in np.split(rows, cuts) if len(rows) else ():
        transfers = rows_to_transfers(batch.rows[part])
        before = len(page.legs)
        shard = int(batch.shards[part[0]])
        frozen = () if batch.frozen is None else {*np.flatnonzero(batch.frozen[part]).tolist()}
        outcomes[part] = decide_batch(page, transfers, shard, time, frozen)
        leg_places.append(part[[leg.at for leg in page.legs[before:]]])
    return outcomes, leg_places
