"""Commits whose answer was lost: what had become of them, as workers found out."""

from collections.abc import Iterable, Sequence

from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from engine.worker.worker import Worker


class LostCommits(Collector):
    """Counts them by their fate.

    Args:
        workers: Of this process.
    """

    def __init__(self, workers: Sequence[Worker]) -> None:
        self._workers = workers

    def collect(self) -> Iterable[CounterMetricFamily]:
        """As the library asks for it."""
        counter = CounterMetricFamily(
            "engine_lost_commits", "Commits whose answer was lost, by their fate", labels=["fate"]
        )
        for fate in ("committed", "aborted"):
            count = sum(worker.store.lost_commits[fate] for worker in self._workers)
            counter.add_metric([fate], count)
        yield counter
