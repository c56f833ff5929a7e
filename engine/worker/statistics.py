"""What a worker counts."""

from collections import Counter
from collections.abc import Collection

from engine.worker.flush_report import FlushReport
from engine.worker.set_aside_limit import SetAsideLimit
from engine.worker.unread import UnreadShards


class Load:
    """What is decided of each shard, between one measurement and the next."""

    def __init__(self) -> None:
        self._measured_at = 0.0
        self._transfers: Counter[int] = Counter()

    def add(self, shard: int, transfers: int) -> None:
        """So many more are decided."""
        self._transfers[shard] += transfers

    def rates(self, shards: Collection[int], now: float) -> dict[int, float]:
        """Transfers a second of these shards since it was asked last; `now` in seconds."""
        elapsed, self._measured_at = now - self._measured_at, now
        rates = {shard: self._transfers[shard] / elapsed for shard in shards} if elapsed > 0 else {}
        self._transfers.clear()
        return rates


class WorkerStatistics:
    """What a worker did since it started: the first to hear of each flush."""

    __slots__ = (
        "conflicts",
        "created",
        "flushes",
        "load",
        "locked",
        "refused",
        "sessions",
        "set_aside_limit",
        "unread",
        "unreadable",
    )

    def __init__(self) -> None:
        self.sessions = self.flushes = self.locked = self.conflicts = 0
        self.created = self.refused = self.unreadable = 0
        self.load = Load()
        self.unread = UnreadShards()
        self.set_aside_limit = SetAsideLimit()

    def add_flush(self, report: FlushReport) -> None:
        """Count a flush."""
        self.flushes += 1
        self.locked += report.is_locked
        self.created += report.created
        self.refused += report.refused
        self.unreadable += report.dead_letters
        for shard, transfers in report.transfers_by_shard.items():
            self.load.add(shard, transfers)
