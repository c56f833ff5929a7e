"""Which stream a transfer goes to, and where a large call is cut."""

from collections.abc import Iterator
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from engine.errors import InputError
from engine.ledger.nouns import BATCH_TRANSFERS_MAX, ID_ZERO, TransferFlags, shard_of
from engine.wire.layout import Rows

HOLDS_MAX: Final = 100_000
"""So many holds that this client made are remembered; beyond, the oldest are forgotten."""

_LINKED: Final = int(TransferFlags.linked)
_PENDING: Final = int(TransferFlags.pending)

Places: TypeAlias = npt.NDArray[np.int64]
"""Of rows in an array."""


class Routes:
    """Knows the shard of a transfer: that of its hold, else of its debit account.

    A post or void is decided by the shard that decided its hold. Where that is not known, any
    stream will do, only slower.

    Args:
        shard_count: Of the ledger.
    """

    def __init__(self, shard_count: int) -> None:
        self.shard_count = shard_count
        self._holds: dict[bytes, int] = {}

    def shard(self, debit_account_id: bytes, pending_id: bytes) -> int:
        """The shard whose stream a transfer goes to."""
        if pending_id != ID_ZERO:
            known = self._holds.get(pending_id)
            if known is not None:
                return known
            if debit_account_id == ID_ZERO:
                return shard_of(pending_id, self.shard_count)
        return shard_of(debit_account_id, self.shard_count)

    def shard_of_first(self, rows: Rows) -> int:
        """The same for the first of some rows, which decides for their entry."""
        row = rows[0]
        return self.shard(row["debit_account_id"].tobytes(), row["pending_id"].tobytes())

    def remember(self, rows: Rows, shard: int) -> None:
        """Remember the holds among rows that were sent to a shard."""
        held = np.flatnonzero(rows["flags"] & _PENDING)
        if not len(held):
            return
        for hold_id in rows["id"][held].tolist():
            self._holds[hold_id] = shard
        while len(self._holds) > HOLDS_MAX:
            del self._holds[next(iter(self._holds))]

    def group(self, rows: Rows) -> Iterator[tuple[int, Places]]:
        """The rows of each shard, in their order; a chain stays whole with its first.

        Yields:
            The shard, and the places of its rows in `rows`.
        """
        debits = np.ascontiguousarray(rows["debit_account_id"]).view(">u4").reshape(-1, 4)
        shards = (debits[:, 3] & (self.shard_count - 1)).astype(np.int64)
        pending = np.ascontiguousarray(rows["pending_id"]).view("<u8").reshape(-1, 2)
        resolving = np.flatnonzero(pending.any(axis=1))
        if len(resolving):
            self._follow_holds(rows, shards, resolving)
        starts = chain_starts(rows)
        if len(starts) < len(rows):
            lengths = np.diff(starts, append=len(rows))
            shards = np.repeat(shards[starts], lengths)
        order = np.argsort(shards, kind="stable")
        cuts = np.flatnonzero(np.diff(shards[order])) + 1
        for places in np.split(order, cuts):
            yield int(shards[places[0]]), places

    def _follow_holds(self, rows: Rows, shards: Places, resolving: Places) -> None:
        """Send a post or void after its hold, be it made in the same call."""
        held = np.flatnonzero(rows["flags"] & _PENDING)
        here = dict(zip(rows["id"][held].tolist(), shards[held].tolist(), strict=True))
        for place in resolving.tolist():
            row = rows[place]
            hold_id = row["pending_id"].tobytes()
            shard = here.get(hold_id)
            if shard is None:
                shard = self.shard(row["debit_account_id"].tobytes(), hold_id)
            shards[place] = shard


def chain_starts(rows: Rows) -> Places:
    """The places of the rows that begin a chain; a transfer without one is its own."""
    begins = np.ones(len(rows), np.bool_)
    begins[1:] = (rows["flags"][:-1] & _LINKED) == 0
    return np.flatnonzero(begins)


def cut(rows: Rows, most: int = BATCH_TRANSFERS_MAX) -> list[tuple[int, int]]:
    """Cut rows into entries of at most `most`, chains whole.

    Returns:
        Start and end of each.

    Raises:
        InputError: When a chain is longer than an entry may be.
    """
    if len(rows) <= most:
        return [(0, len(rows))] if len(rows) else []
    starts = np.append(chain_starts(rows), len(rows))
    pieces = []
    start = 0
    while start < len(rows):
        end = int(starts[np.searchsorted(starts, start + most, side="right") - 1])
        if end <= start:
            raise InputError(
                f"A chain has more than {most} transfers, which no entry holds - at `$[{start}]`"
            )
        pieces.append((start, end))
        start = end
    return pieces
