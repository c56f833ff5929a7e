"""Entries to decide as one array of requests, and what can be said of them unseen.

A request has the *form* of one that columns can decide when it is a plain move or hold, alone or
in a linked chain of such, or a post or void of one hold. Requests that stand or fall together
(a chain, a hold and what resolves it, an id that stands twice) are of one *group*: they are all
decided by columns, or all by the rules.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from engine.book.book import LARGE
from engine.book.id_table import IdTable, hash_words
from engine.book.runs import joined, run_lengths, run_starts
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

_WORD_MAX: Final = np.uint64(2**64 - 1)


class Batch:
    """Entries in the order in which they are decided, as one array of requests.

    Args:
        requests: Of each entry, its rows of dtype `TRANSFER`.
        shards: Of each entry, the shard by whose stream it came.
    """

    def __init__(self, requests: Sequence[Rows], shards: Sequence[int]) -> None:
        self.rows: Rows = joined(requests) if requests else np.empty(0, TRANSFER)
        lengths = [len(rows) for rows in requests]
        self.ends = np.cumsum([0, *lengths])
        """Where entries begin; the last number is where the last one ends."""
        self.shards = np.repeat(np.array(shards, np.int16), lengths)
        self.entries = np.repeat(np.arange(len(requests)), lengths)
        self.words = self.rows.view(np.uint64).reshape(len(self.rows), 16)

    def part(self, start: int, stop: int) -> "Batch":
        """The requests of some places, no linked chain of which is cut."""
        part = Batch([], [])
        part.rows, part.words = self.rows[start:stop], self.words[start:stop]
        part.shards, part.entries = self.shards[start:stop], self.entries[start:stop]
        part.ends = np.clip(self.ends, start, stop) - start
        return part


class Missing(NamedTuple):
    """What must be looked up before a batch can be decided: in this order."""

    accounts: list[bytes]
    refresh: list[int]
    """Numbers of accounts that are short, whose other stripes are to be read anew."""
    ids: list[bytes]


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
        named = (words[:, 0] | words[:, 1]) != 0
        named &= (words[:, 0] & words[:, 1]) != _WORD_MAX
        named &= rows["timestamp"] == 0
        unlinked = flags & ~np.uint16(LINKED)
        moves = (unlinked == 0) | (unlinked == PENDING)
        moves &= named & ~large
        moves &= (words[:, 8] | words[:, 9]) == 0  # pending_id
        moves &= (rows["timeout"] == 0) | (unlinked == PENDING)
        moves &= rows["code"] != 0
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
            self.resolves = named & ((flags == POST) | (flags == VOID)) & (rows["timeout"] == 0)
            self.resolves &= ~self.chained  # the last of a chain carries no flag of it
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
        # One that is left open at the end of its entry is refused for that.
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
        one = np.concatenate([a for a, _ in self._ties])
        other = np.concatenate([b for _, b in self._ties])
        label = self.together
        while True:
            least = np.minimum(label[one], label[other])
            if np.array_equal(least, label[one]) and np.array_equal(least, label[other]):
                break
            np.minimum.at(label, one, least)
            np.minimum.at(label, other, least)
        self.grouped[one] = self.grouped[other] = True

    def whole(self, mask: Mask) -> Mask:
        """All requests of the groups of which one is in `mask`."""
        if not self._ties:
            return mask
        hit = np.zeros(len(mask), bool)
        hit[self.together[mask]] = True
        return hit[self.together]
