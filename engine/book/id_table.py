"""From ids of 16 bytes to dense numbers, many at once: an open-addressed table in numpy.

A Python dict takes 640 ns a look-up here once it holds a million keys of 16 bytes, and an
object a key; this takes columns in and gives columns out.
"""

from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

Words: TypeAlias = npt.NDArray[np.uint64]
"""Ids as pairs of unsigned 64-bit words: shape (n, 2)."""

Slots: TypeAlias = npt.NDArray[np.int64]
"""Places of ids, shape (n,); -1 where an id is not in the table."""

_MIX: Final = np.uint64(0x9E3779B97F4A7C15)
_HALF_BITS: Final = np.uint64(32)
_HALF_MASK: Final = np.uint64(0xFFFFFFFF)
_SLOT_MASK: Final = np.uint64(0xFFFFFFFF)
_EMPTY: Final = np.uint64(0xFFFFFFFFFFFFFFFF)
_HASH_MASK: Final = np.uint64(0x7FFFFFFFFFFFFFFF)


def words_of(ids: npt.NDArray[np.void]) -> Words:
    """A column of V16 as words; a copy where the column is not contiguous."""
    return np.ascontiguousarray(ids).view(np.uint64).reshape(-1, 2)


FEW_IDS_MAX: Final = 8
"""Measured in CPU time: one id 1.1 us in place of 9.5, 8 of them 3.9 and 6.4."""

_LOW: Final = 2**64 - 1

_key_words: Final = [0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F]
_key: Final = np.array(_key_words, np.uint64)


def key_hashes(secret: bytes) -> None:
    """Hash by another key from now on: before the first table is filled, or never.

    Ids come from producers. Whoever knew the key could choose ids that all hash alike, and each
    look-up would go through all of them.

    Args:
        secret: 16 bytes, random at the start of a process.
    """
    _key[:] = np.frombuffer(secret, np.uint64)
    _key_words[:] = _key.tolist()


def hash_words(words: Words) -> npt.NDArray[np.uint64]:
    """A 63-bit hash of each id, by the key of the process.

    Of each word the halves, keyed, are multiplied: by how much a product changes with one half
    depends on the key of the other. Then whatever is regular in ids made one after the other is
    mixed. Source: NH, the universal hash of UMAC (RFC 4418), with xor in place of its addition.
    """
    if len(words) <= FEW_IDS_MAX:
        return np.array([_hash_of(high, low) for high, low in words.tolist()], np.uint64)
    high, low = words[:, 0] ^ _key[0], words[:, 1] ^ _key[1]
    mixed: npt.NDArray[np.uint64] = high & _HALF_MASK
    mixed *= high >> _HALF_BITS
    other = low & _HALF_MASK
    other *= low >> _HALF_BITS
    mixed += other
    mixed ^= mixed >> np.uint64(29)
    mixed *= _MIX
    mixed ^= mixed >> np.uint64(32)
    mixed &= _HASH_MASK  # so that none looks like an empty place
    return mixed


def _hash_of(high: int, low: int) -> int:
    """The same of one id, without columns."""
    high, low = high ^ _key_words[0], low ^ _key_words[1]
    mixed = (high & 0xFFFFFFFF) * (high >> 32) + (low & 0xFFFFFFFF) * (low >> 32) & _LOW
    mixed = (mixed ^ mixed >> 29) * 0x9E3779B97F4A7C15 & _LOW
    return (mixed ^ mixed >> 32) & 0x7FFFFFFFFFFFFFFF


class IdTable:
    """Ids and their slots: 0, 1, 2, ... in the order in which they were added.

    Args:
        capacity: How many ids fit before the table grows for the first time.
    """

    def __init__(self, capacity: int = 1024) -> None:
        self._high = np.zeros(max(capacity, 8), np.uint64)
        self._low = np.zeros(max(capacity, 8), np.uint64)
        self.count = 0
        self._spread(len(self._high))

    def words(self, slots: Slots) -> Words:
        """The ids of slots."""
        return np.stack([self._high[slots], self._low[slots]], axis=1)

    def _spread(self, capacity: int) -> None:
        """Make the places anew, at least twice as many as ids."""
        size = 1 << (2 * capacity - 1).bit_length()
        self._mask = np.uint64(size - 1)
        self._places = np.full(size, _EMPTY, np.uint64)
        if self.count:
            self._place(self.words(np.arange(self.count)), 0)

    def find(self, words: Words) -> Slots:
        """The slots of ids, -1 for those that are not here. About 90 ns each, 250 of a million."""
        hashes = hash_words(words)
        at = hashes & self._mask
        found = self._places[at]
        # The upper half of a place is that of the hash: nearly always one look suffices.
        slots: Slots = (found & _SLOT_MASK).astype(np.int64)
        wrong = (found ^ hashes) > _SLOT_MASK
        slots[wrong] = 0
        wrong |= self._high[slots] != words[:, 0]
        wrong |= self._low[slots] != words[:, 1]
        slots[wrong] = -1
        todo = np.flatnonzero(wrong & (found != _EMPTY))
        step = np.uint64(1)
        while len(todo):
            found = self._places[(at[todo] + step) & self._mask]
            there = found != _EMPTY
            slot = np.where(there, found & _SLOT_MASK, 0).astype(np.int64)
            same = (
                there & (self._high[slot] == words[todo, 0]) & (self._low[slot] == words[todo, 1])
            )
            slots[todo[same]] = slot[same]
            todo = todo[there & ~same]
            step += np.uint64(1)
        return slots

    def add(self, words: Words) -> Slots:
        """Give slots to ids that are distinct and not here yet; returns them, in order."""
        first, self.count = self.count, self.count + len(words)
        grows = self.count > len(self._high)
        if grows:
            capacity = max(self.count, 2 * len(self._high))
            self._high = np.resize(self._high, capacity)
            self._low = np.resize(self._low, capacity)
        self._high[first : self.count] = words[:, 0]
        self._low[first : self.count] = words[:, 1]
        if grows:
            self._spread(len(self._high))
        else:
            self._place(words, first)
        return np.arange(first, self.count, dtype=np.int64)

    def _place(self, words: Words, first: int) -> None:
        hashes = hash_words(words)
        at = hashes & self._mask
        wanted = (hashes & ~_SLOT_MASK) | np.arange(first, first + len(words), dtype=np.uint64)
        todo = np.arange(len(words))
        while len(todo):
            free = self._places[at[todo]] == _EMPTY
            trying = todo[free]
            # Where several want one place the last one written has it; the others go on.
            self._places[at[trying]] = wanted[trying]
            settled = self._places[at[todo]] == wanted[todo]
            todo = todo[~settled]
            at[todo] = (at[todo] + np.uint64(1)) & self._mask
