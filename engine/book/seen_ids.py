"""A filter of the ids that were decided lately."""

from typing import Final

import numpy as np
import numpy.typing as npt

from engine.book.id_table import Words, hash_words

SEEN_BITS: Final = 22
"""The filter has 2^22 places, 32 MB; what drops out of it Postgres finds."""


class SeenIds:
    """Ids seen lately: "seen" may be wrong, "new" means nothing."""

    def __init__(self) -> None:
        self._hashes = np.zeros(1 << SEEN_BITS, np.uint64)
        self._mask = np.uint64(len(self._hashes) - 1)

    def add(self, words: Words) -> None:
        """These ids were decided."""
        hashes = hash_words(words)
        self._hashes[hashes & self._mask] = hashes

    def are_seen(self, words: Words) -> npt.NDArray[np.bool_]:
        """Which of these may have been decided lately."""
        hashes = hash_words(words)
        seen: npt.NDArray[np.bool_] = self._hashes[hashes & self._mask] == hashes
        return seen

    def forget_all(self) -> None:
        """As if none had been seen."""
        self._hashes[:] = 0
