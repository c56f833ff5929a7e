"""What a worker counts."""

from collections import Counter
from collections.abc import Collection

from engine.store.rows import ShardLoad
from engine.worker.flush_report import FlushReport
from engine.worker.set_aside_limit import SetAsideLimit
from engine.worker.unread import UnreadShards


class Load:
    """What is decided of each shard, between one measurement and the next."""

    def __init__(self) -> None:
        self._measured_at = 0.0
        self._transfers: Counter[int] = Counter()
        self._answer_seconds: dict[int, float] = {}
        self._commit_seconds = 0.0

    def add_flush(self, report: FlushReport) -> None:
        """What it holds is decided."""
        self._transfers.update(report.transfers_by_shard)
        for shard, ms in report.oldest_ms_by_shard.items():
            seconds = max(report.committed_ms - ms, 0) / 1000
            self._answer_seconds[shard] = max(self._answer_seconds.get(shard, 0.0), seconds)
        self._commit_seconds = max(self._commit_seconds, report.commit_seconds)

    def measure(self, shards: Collection[int], now: float) -> tuple[list[ShardLoad], float]:
        """Of these shards, and the slowest commit, since it was asked last; `now` in seconds."""
        elapsed, self._measured_at = now - self._measured_at, now
        loads = [
            ShardLoad(shard, self._transfers[shard] / elapsed, self._answer_seconds.get(shard, 0.0))
            for shard in (shards if elapsed > 0 else ())
        ]
        commit_seconds, self._commit_seconds = self._commit_seconds, 0.0
        self._transfers.clear()
        self._answer_seconds.clear()
        return loads, commit_seconds


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
        self.load.add_flush(report)
