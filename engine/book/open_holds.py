"""Holds that are open, in columns: those a worker made or met lately.

What is here is the truth as long as the worker's chain of flushes is unbroken, for holds of its
own shards: nobody else resolves them. What is not here may be in Postgres. Bounded: the older
half is forgotten when the younger is full.
"""

from collections.abc import Collection
from typing import Final

import numpy as np
import numpy.typing as npt

from engine.book.columns import SPENT, SpentRows
from engine.book.id_table import IdTable, Words, words_of
from engine.book.runs import raw

HALF: Final = 1 << 17
"""Holds that fit into each half; 19 MB."""

Mask = npt.NDArray[np.bool_]


class _Half:
    def __init__(self, capacity: int) -> None:
        self.table = IdTable(capacity)
        self.rows = np.empty(capacity, SPENT)
        self.open = np.zeros(capacity, bool)

    def add(self, rows: SpentRows) -> None:
        words = words_of(rows["id"])
        slots = self.table.find(words)
        new = slots < 0
        slots[new] = self.table.add(words[new])
        self._fit(self.table.count)
        raw(self.rows)[slots] = raw(rows)
        self.open[slots] = True

    def _fit(self, count: int) -> None:
        if count > len(self.rows):
            capacity = max(count, 2 * len(self.rows))
            grown = np.empty(capacity, SPENT)
            raw(grown)[: len(self.rows)] = raw(self.rows)
            self.rows = grown
            self.open = np.concatenate([self.open, np.zeros(capacity - len(self.open), bool)])


class OpenHolds:
    """Open holds by id, as rows of `SPENT`.

    Args:
        half: How many may be in each half.
    """

    def __init__(self, half: int = HALF) -> None:
        self._half = half
        self._young = _Half(1024)
        self._old = _Half(8)

    def add_holds(self, rows: SpentRows) -> None:
        """Take in open holds."""
        if not len(rows):
            return
        if self._young.table.count and self._young.table.count + len(rows) > self._half:
            self._old, self._young = self._young, _Half(1024)
        self._young.add(rows)

    def find_holds(self, words: Words) -> tuple[Mask, SpentRows]:
        """Which ids are open holds, and their rows (of the others, anything)."""
        rows = np.empty(len(words), SPENT)
        found = np.zeros(len(words), bool)
        for half in (self._young, self._old):
            at = half.table.find(words)
            here = np.flatnonzero(at >= 0)
            here = here[half.open[at[here]]]
            found[here] = True
            raw(rows)[here] = raw(half.rows)[at[here]]
        return found, rows

    def reopen_holds(self, words: Words) -> None:
        """Those of these that are still here are open after all."""
        for half in (self._young, self._old):
            at = half.table.find(words)
            half.open[at[at >= 0]] = True

    def end_holds(self, words: Words) -> None:
        """These are open no more."""
        if not len(words):
            return
        for half in (self._young, self._old):
            at = half.table.find(words)
            half.open[at[at >= 0]] = False

    def forget_shards(self, shards: Collection[int]) -> None:
        """Forget the holds that these shards decided: others may resolve them now."""
        for half in (self._young, self._old):
            count = half.table.count
            half.open[:count] &= ~np.isin(half.rows["shard"][:count], list(shards))
