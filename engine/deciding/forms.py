"""What requests are, from themselves alone: which have a form that columns can decide.

A request has the *form* of one that columns can decide when it is a plain move or hold, alone or
in a linked chain of such, or a post or void of one hold. Requests that stand or fall together
(a chain, a hold and what resolves it, an id that stands twice) are of one *group*: they are all
decided by columns, or all by the rules.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

from engine.book.counter_bounds import LARGE
from engine.book.id_table import IdTable, hash_words
from engine.book.runs import run_lengths, run_starts
from engine.deciding.batch import (
    BALANCING,
    CLOSING,
    LINKED,
    PENDING,
    POST,
    RESOLVING,
    VOID,
    Batch,
    Ints,
    Mask,
)
from engine.deciding.components import find_components

_WORD_MAX: Final = np.uint64(2**64 - 1)


class Forms:
    """What the requests of a batch are, from themselves alone.

    Attributes:
        moves: Which have the form of a move or hold that columns can decide.
        resolves: Which have the form of a post or void that columns can decide.
        first: Of each request, the first with the same content and id: mostly itself.
        held: Of each request that resolves a hold of this batch, the hold's place; else -1.
        exactly: Which are decided by the exact balance of any account.
        together: Of each request, the first of its group.
        grouped: Which are in a group of several.
        chained: Which stand in a linked chain.
        resolving: Places of all posts and voids, whatever their form.
    """

    def __init__(self, batch: Batch) -> None:
        rows, words = batch.rows, batch.words
        count = len(rows)
        flags = rows["flags"]
        resolving = flags & RESOLVING != 0
        self.resolving = np.flatnonzero(resolving)
        large = (rows["amount_low"] >= LARGE) | (rows["amount_high"] != 0)
        self.exactly = (large | (flags & (BALANCING | CLOSING) != 0)) & ~resolving
        # At each line stands the outcome that sorts a request away.
        named = rows["timestamp"] == 0  # timestamp_must_be_zero
        named &= (words[:, 0] | words[:, 1]) != 0  # id_must_not_be_zero
        named &= (words[:, 0] & words[:, 1]) != _WORD_MAX  # id_must_not_be_int_max
        unlinked = flags & ~np.uint16(LINKED)
        # reserved_flag, flags_are_mutually_exclusive, closing_transfer_must_be_pending
        moves = (unlinked == 0) | (unlinked == PENDING)
        moves &= named
        moves &= (words[:, 8] | words[:, 9]) == 0  # pending_id_must_be_zero
        # timeout_reserved_for_pending_transfer
        moves &= (rows["timeout"] == 0) | (unlinked == PENDING)
        moves &= rows["code"] != 0  # code_must_not_be_zero
        moves &= ~large  # overflows_...
        self.moves = moves
        self.resolves = np.zeros(count, bool)
        self.first = np.arange(count)
        self.held = np.full(count, -1)
        self._ties: list[tuple[Ints, Ints]] = []
        self._unlike = np.empty(0, np.int64)
        self.chained = np.zeros(count, bool)
        linked = flags & LINKED != 0
        if linked.any():
            self._tie_chains(batch, linked)
        self._tie_repeats(words)
        if len(self.resolving):
            # flags_are_mutually_exclusive
            self.resolves = named & ((flags == POST) | (flags == VOID))
            self.resolves &= rows["timeout"] == 0  # timeout_reserved_for_pending_transfer
            # linked_event_failed: the last of a chain carries no flag of it.
            self.resolves &= ~self.chained
            self._tie_holds(words, flags)
        self.moves[self._unlike] = self.resolves[self._unlike] = False
        self._group(count)

    def _tie_chains(self, batch: Batch, linked: Mask) -> None:
        follows = np.zeros(len(linked), bool)
        follows[1:] = linked[:-1] & (batch.entries[1:] == batch.entries[:-1])
        self.chained = linked | follows
        heads = np.flatnonzero(self.chained & ~follows)
        rows = np.flatnonzero(self.chained)
        self._ties.append((rows, heads[np.searchsorted(heads, rows, side="right") - 1]))
        # linked_event_chain_open: it is left open at the end of its entry.
        ends = batch.ends[1:] - 1
        ends = ends[np.diff(batch.ends) > 0]
        self.moves[ends[linked[ends]]] = False

    def _tie_repeats(self, words: npt.NDArray[np.uint64]) -> None:
        hashes = hash_words(words[:, 0:2])
        ascending = np.sort(hashes)
        if not (ascending[1:] == ascending[:-1]).any():
            return
        order = np.argsort(hashes, kind="stable")
        starts = run_starts(hashes[order])
        first = order[np.repeat(starts, run_lengths(starts, len(order)))]
        rows, first = order[order != first], first[order != first]
        self._ties.append((rows, first))
        alike = (words[rows] == words[first]).all(axis=1)
        alike &= ~(self.chained[rows] | self.chained[first])
        self.first[rows[alike]] = first[alike]
        self._unlike = rows[~alike]

    def _tie_holds(self, words: npt.NDArray[np.uint64], flags: npt.NDArray[np.uint16]) -> None:
        """Tie holds of this batch to what resolves them; columns take one that is ended once."""
        rows = self.resolving
        hashes = hash_words(words[rows, 8:10])
        order = np.argsort(hashes, kind="stable")
        alike = np.diff(hashes[order]) == 0
        self._ties.append((rows[order[1:][alike]], rows[order[:-1][alike]]))
        order = order[self.first[rows[order]] == rows[order]]
        several = np.diff(hashes[order]) == 0
        self.resolves[rows[order[1:][several]]] = False
        ids = np.flatnonzero(self.first == np.arange(len(words)))
        table = IdTable(len(ids))
        table.add(words[ids, 0:2])
        at = table.find(words[rows, 8:10])
        source, target = rows[at >= 0], ids[at[at >= 0]]
        self._ties.append((source, target))
        good = self.moves[target] & (flags[target] == PENDING) & (target < source)
        self.resolves[source[~good]] = False
        self.held[source[good]] = target[good]

    def _group(self, count: int) -> None:
        self.together = np.arange(count)
        self.grouped = np.zeros(count, bool)
        if not self._ties:
            return
        here = np.concatenate([ends for ends, _ in self._ties])
        there = np.concatenate([ends for _, ends in self._ties])
        self.together = find_components(count, here, there)
        self.grouped[here] = self.grouped[there] = True

    def whole(self, mask: Mask) -> Mask:
        """All requests of the groups of which one is in `mask`."""
        if not self._ties:
            return mask
        hit = np.zeros(len(mask), bool)
        hit[self.together[mask]] = True
        return hit[self.together]
