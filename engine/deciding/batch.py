"""Entries to decide, as one array of requests."""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from engine.book.runs import joined
from engine.ledger.nouns import TransferFlags
from engine.wire.layout import TRANSFER, Rows

LINKED: Final = int(TransferFlags.linked)
PENDING: Final = int(TransferFlags.pending)
POST: Final = int(TransferFlags.post_pending_transfer)
VOID: Final = int(TransferFlags.void_pending_transfer)
RESOLVING: Final = POST | VOID
BALANCING_DEBIT: Final = int(TransferFlags.balancing_debit)
BALANCING_CREDIT: Final = int(TransferFlags.balancing_credit)
BALANCING: Final = BALANCING_DEBIT | BALANCING_CREDIT
CLOSING: Final = int(TransferFlags.closing_debit | TransferFlags.closing_credit)

Mask = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]


class Batch:
    """Entries in the order in which they are decided, as one array of requests.

    Args:
        requests: Of each entry, its rows of dtype `TRANSFER`.
        shards: Of each entry, the shard by whose stream it came.
        frozen: Of entries, by their places, which of their requests match a freeze that declines.
    """

    def __init__(
        self,
        requests: Sequence[Rows],
        shards: Sequence[int],
        frozen: Mapping[int, Mask] | None = None,
    ) -> None:
        self.rows: Rows = joined(requests) if requests else np.empty(0, TRANSFER)
        lengths = [len(rows) for rows in requests]
        self.ends = np.cumsum([0, *lengths])
        """Where entries begin; the last number is where the last one ends."""
        self.shards = np.repeat(np.array(shards, np.int16), lengths)
        self.entries = np.repeat(np.arange(len(requests)), lengths)
        self.words = self.rows.view(np.uint64).reshape(len(self.rows), 16)
        self.frozen: Mask | None = None
        """Which requests match a freeze that declines; None where none does."""
        if frozen:
            self.frozen = np.zeros(len(self.rows), bool)
            for entry, mask in frozen.items():
                self.frozen[self.ends[entry] : self.ends[entry + 1]] = mask

    def part(self, start: int, stop: int) -> "Batch":
        """The requests of some places, no linked chain of which is cut."""
        part = Batch([], [])
        part.rows, part.words = self.rows[start:stop], self.words[start:stop]
        part.shards, part.entries = self.shards[start:stop], self.entries[start:stop]
        part.ends = np.clip(self.ends, start, stop) - start
        part.frozen = None if self.frozen is None else self.frozen[start:stop]
        return part
