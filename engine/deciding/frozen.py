"""Which requests match what is frozen: by account, ledger or code, theirs or their hold's."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.book.id_table import IdTable, words_of
from engine.deciding.batch import RESOLVING, Ints
from engine.ledger.freezes import Freeze
from engine.ledger.nouns import Transfer
from engine.wire.layout import Rows, transfers_to_rows


class FrozenColumns:
    """Freezes, laid out to be looked for in many requests at once.

    Args:
        freezes: At most one of each thing.
        shard_count: Of the ledger.
    """

    def __init__(self, freezes: Iterable[Freeze], shard_count: int) -> None:
        self._shard_count = shard_count
        self._accounts = IdTable(8)
        numbers: list[int] = []
        self._values: dict[str, dict[int, int]] = {"ledger": {}, "code": {}, "shard": {}}
        for freeze in freezes:
            if isinstance(freeze.what, bytes):
                numbers.append(freeze.number)
                self._accounts.add(words_of(np.frombuffer(freeze.what, "V16")))
            else:
                self._values[freeze.kind][freeze.what] = freeze.number
        self._account_numbers = np.array([*numbers, 0], np.int64)
        """By slot; the last is for "no account"."""

    def __bool__(self) -> bool:
        return self._accounts.count > 0 or any(self._values.values())

    def find_freezes(self, rows: Rows, holds: Mapping[bytes, Transfer]) -> Ints:
        """Of each request the number of a freeze that it matches, 0 where it matches none.

        Args:
            rows: The requests.
            holds: What is known of the holds that they name, by id; created ones alone.
        """
        found = self._match(rows)
        resolving = np.flatnonzero(rows["flags"] & RESOLVING) if holds else ()
        named = [
            (place, hold)
            for place in resolving
            if (hold := holds.get(rows["pending_id"][place].tobytes())) is not None
        ]
        if named:
            places = np.array([place for place, _ in named])
            by_hold = self._match(transfers_to_rows([hold for _, hold in named]))
            found[places] = np.where(found[places], found[places], by_hold)
        return found

    def _match(self, rows: Rows) -> Ints:
        words = np.ascontiguousarray(rows).view(np.uint64).reshape(len(rows), 16)
        found = np.zeros(len(rows), np.int64)
        if self._accounts.count:
            for column in (words[:, 2:4], words[:, 4:6]):
                _fill(found, self._account_numbers[self._accounts.find(column)])
        for name in ("ledger", "code"):
            for value, number in self._values[name].items():
                _fill(found, np.where(rows[name] == value, number, 0))
        if self._values["shard"]:
            homes = _homes(rows, self._shard_count)
            for value, number in self._values["shard"].items():
                _fill(found, np.where(homes == value, number, 0))
        return found


def _fill(found: Ints, numbers: npt.NDArray[Any]) -> None:
    """What matches nothing yet matches these."""
    np.copyto(found, numbers, where=found == 0)


def _homes(rows: Rows, shard_count: int) -> Ints:
    """The shards of the debit accounts; of a request that names none it is beyond all shards."""
    ids = np.ascontiguousarray(rows["debit_account_id"])
    last = ids.view(">u4").reshape(len(rows), 4)[:, 3].astype(np.int64)
    named = ids.view(np.uint64).reshape(len(rows), 2).any(axis=1)
    return np.where(named, last & (shard_count - 1), shard_count)
