"""What is said of each committed flush, to whoever wants to hear it: statistics, metrics, feeds."""

from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias

import msgspec
import numpy as np

from engine.ledger.outcomes import Outcome
from engine.store.rows import Flush
from engine.worker.replies import Reply


class FlushReport(msgspec.Struct, frozen=True, gc=False):
    """A committed flush in a few numbers. Units: seconds, transfers, rows."""

    kind: Literal["flush", "locked"]
    sequence: int
    """In the worker's chain."""
    number: int
    """Unique over all workers."""
    time: int
    """Of the flush, in microseconds since 1970."""
    outcomes: dict[Outcome, int]
    """How many requests had each outcome; those that none had are left out."""
    transfers_by_shard: dict[int, int]
    """Transfers by the shard whose stream they came by."""
    entries: int
    entries_by_ms: dict[int, int]
    """Entries by the millisecond, since 1970, in which Redis took them; none that waited for a
    thaw, which were meant to wait."""
    oldest_ms_by_shard: dict[int, int]
    """The first of those milliseconds, by shard."""
    dead_letters: int
    postings: int
    imbalance: int
    """The sum of the amounts of its postings: 0."""
    expiries: int
    conflicts: int
    """Attempts before this one that came to nothing, since the last flush."""
    open_seconds: float
    """From the first decision to the moment when nothing more went in; 0 for a locked flush."""
    ready_seconds: float
    """For how long it then waited for the flush before it; 0 for a locked flush."""
    commit_seconds: float
    """From the moment it was sent, or its locks were asked for, until it was committed."""
    replies: Sequence[Reply]
    """Its entries and what is told of them, for who looks closer."""

    @property
    def created(self) -> int:
        """Transfers that were created."""
        return self.outcomes.get(Outcome.created, 0)

    @property
    def refused(self) -> int:
        """Requests with another outcome."""
        return sum(self.outcomes.values()) - self.created

    @property
    def committed_ms(self) -> float:
        """When it was committed, in milliseconds since 1970."""
        seconds = self.open_seconds + self.ready_seconds + self.commit_seconds
        return self.time / 1000 + seconds * 1000

    @property
    def is_locked(self) -> bool:
        """Whether it was decided under the locks of other owners."""
        return self.kind == "locked"


Subscriber: TypeAlias = Callable[[FlushReport], None]
"""Called with each flush in order, once it is committed and before it is answered. It waits for
nothing and raises nothing."""


class Phases(msgspec.Struct, gc=False):
    """When a flush went from one state to the next, by the loop's clock."""

    opened: float = 0.0
    sealed: float = 0.0
    sent: float = 0.0


def report_flush(
    flush: Flush, replies: Sequence[Reply], phases: Phases, now: float, conflicts: int
) -> FlushReport:
    """Sum up a flush that is committed by now.

    Args:
        flush: As it was written.
        replies: Of its entries.
        phases: When it passed from state to state.
        now: By the same clock.
        conflicts: Attempts before it that came to nothing.
    """
    counts = np.zeros(256, np.int64)
    expiries = 0
    for decided in flush.decided:
        counts += np.bincount(decided.outcomes, minlength=256)
        expiries += len(decided.expiries)
    transfers: dict[int, int] = {}
    entries: dict[int, int] = {}
    oldest: dict[int, int] = {}
    for reply in replies:
        arrival = reply.arrival
        shard, ms = arrival.entry.shard, arrival.entry.position.ms
        transfers[shard] = transfers.get(shard, 0) + len(arrival.rows)
        if arrival.waits is None and not arrival.is_released:
            entries[ms] = entries.get(ms, 0) + 1
            if ms < oldest.get(shard, ms + 1):
                oldest[shard] = ms
    there = np.flatnonzero(counts)
    return FlushReport(
        kind=flush.kind,
        sequence=flush.sequence,
        number=flush.number,
        time=flush.time,
        outcomes={
            _OUTCOMES[number]: count
            for number, count in zip(there.tolist(), counts[there].tolist(), strict=True)
        },
        transfers_by_shard=transfers,
        entries=len(replies),
        entries_by_ms=entries,
        oldest_ms_by_shard=oldest,
        dead_letters=len(flush.dead_letters),
        postings=len(flush.posted),
        imbalance=int(flush.posted.amount.sum()),
        expiries=expiries,
        conflicts=conflicts,
        open_seconds=phases.sealed - phases.opened,
        ready_seconds=phases.sent - phases.sealed,
        commit_seconds=now - phases.sent,
        replies=replies,
    )


_OUTCOMES = {int(outcome): outcome for outcome in Outcome}
