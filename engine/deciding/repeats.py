"""Ids that are taken: which requests of a batch have one.

Where a transfer that was created is sent again as it was, nothing but `exists` can come of it.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from engine.book.id_table import IdTable, words_of
from engine.deciding.batch import Batch, Mask
from engine.deciding.forms import Forms
from engine.ledger.outcomes import Outcome
from engine.ledger.page import IdRecord
from engine.wire.layout import transfers_to_rows


class TakenIds(NamedTuple):
    """Over the requests of a batch."""

    taken: Mask
    """Which have an id that is taken, or that may be and was not looked up."""
    repeats: Mask
    """Which of them are what was created, to the last byte, and stand alone."""


def find_taken_ids(
    batch: Batch,
    forms: Forms,
    plain: Mask,
    seen: Mask,
    looked_up: Mapping[bytes, IdRecord | None],
) -> TakenIds:
    """Look at the ids of those requests that columns could decide otherwise.

    Args:
        batch: The requests.
        forms: What they are.
        plain: Which are to be looked at.
        seen: Which have an id that was seen lately.
        looked_up: What became of ids; None of those that are free.
    """
    taken = plain & seen
    repeats = np.zeros(len(plain), bool)
    if not looked_up:
        return TakenIds(taken, repeats)
    table = IdTable(len(looked_up))
    table.add(words_of(np.frombuffer(b"".join(looked_up), "V16")))
    rows = np.flatnonzero(plain)
    at = table.find(batch.words[rows, 0:2])
    rows, at = rows[at >= 0], at[at >= 0]
    taken[rows] = np.array([known is not None for known in looked_up.values()])[at]
    # Of what was refused nothing is repeated: its row stays zero, and no request has such an id.
    kept = np.zeros((len(looked_up), batch.words.shape[1]), np.uint64)
    created = {
        place: known.transfer
        for place, known in enumerate(looked_up.values())
        if known is not None and known.outcome is Outcome.created
    }
    if created:
        kept[list(created)] = (
            transfers_to_rows([*created.values()]).view(np.uint64).reshape(len(created), -1)
        )
        alone = forms.moves[rows] & ~forms.grouped[rows]
        repeats[rows] = alone & (kept[at] == batch.words[rows]).all(axis=1)
    return TakenIds(taken, repeats)
