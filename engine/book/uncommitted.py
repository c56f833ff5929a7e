"""Decisions that a read from Postgres may not show yet."""

from collections import deque
from collections.abc import Collection, Iterator

import numpy as np

from engine.book.columns import Decision
from engine.book.id_table import words_of
from engine.ledger.page import HoldStatus, IdRecord


class Uncommitted:
    """Decisions by flush: of one that was committed, of those under way, of the one that is open.

    One that was committed is kept until the next one is, since what was looked up before it was
    committed may be decided after.
    """

    def __init__(self) -> None:
        self._flushes: deque[list[Decision]] = deque([[], []])

    def __iter__(self) -> Iterator[Decision]:
        return (decision for flush in self._flushes for decision in flush)

    def add_decision(self, decision: Decision) -> None:
        """It goes into the flush that is open."""
        self._flushes[-1].append(decision)

    def begin_flush(self) -> None:
        """What is added from now on goes into the next flush."""
        self._flushes.append([])

    def end_flush(self) -> None:
        """The oldest flush under way is committed; the one before it is forgotten."""
        self._flushes.popleft()

    def forget_all(self) -> None:
        """All is committed, or given up: Postgres shows what there is."""
        self._flushes = deque([[], []])

    def find_records(self, ids: Collection[bytes]) -> dict[bytes, IdRecord]:
        """What became of ids; those that were not decided here are left out."""
        found: dict[bytes, IdRecord] = {}
        if not ids or not any(self._flushes):
            return found
        wanted = list(ids)
        words = words_of(np.frombuffer(b"".join(wanted), "V16"))
        for decision in self:
            places = decision.find_ids(words)
            for at in np.flatnonzero(places >= 0).tolist():
                found[wanted[at]] = decision.record_at(int(places[at]))
        return found

    def find_ends(self, hold_ids: Collection[bytes]) -> dict[bytes, HoldStatus]:
        """How holds ended; those that did not end here are left out."""
        found: dict[bytes, HoldStatus] = {}
        if not hold_ids or not any(self._flushes):
            return found
        wanted = list(hold_ids)
        words = words_of(np.frombuffer(b"".join(wanted), "V16"))
        for decision in self:
            places = decision.find_ends(words)
            for at in np.flatnonzero(places >= 0).tolist():
                found[wanted[at]] = HoldStatus(int(decision.resolutions.statuses[places[at]]))
        return found
