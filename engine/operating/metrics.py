"""What a process tells Prometheus: counters fed by each flush, gauges of workers and the ledger.

Names and units are those of Prometheus. Accounts and transfers are never labels. Only who gave
`--metrics` imports this.
"""

import asyncio
import time
from collections.abc import Sequence
from typing import Final

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from engine.errors import EngineError
from engine.ledger.outcomes import Outcome
from engine.operating.facts import gather
from engine.operating.histogram import CountedHistogram
from engine.operating.ledger_gauges import LedgerGauges
from engine.operating.lost_commits import LostCommits
from engine.worker.flush_report import FlushReport
from engine.worker.worker import Worker

SECONDS: Final = (
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1,
    2.5,
    5,
    10,
    30,
    60,
    300,
)
SIZES: Final = (1, 3, 10, 30, 100, 300, 1000, 3000, 10_000, 30_000, 100_000)
FACTS_SECONDS: Final = 10.0
"""How often the servers are asked, by each process."""
LOOP_SECONDS: Final = 0.5
"""How often it is measured how late the event loop is."""

_log = structlog.get_logger()


class Metrics:
    """The metrics of a process.

    Args:
        workers: Those of this process.
    """

    def __init__(self, workers: Sequence[Worker]) -> None:
        self.registry = CollectorRegistry()
        self._workers = list(workers)
        self._make_flush_metrics()
        self._make_worker_metrics()
        self.ledger = LedgerGauges(self.registry)
        for worker in self._workers:
            worker.subscribe(self.hear_flush)
            worker.subscribe_to_ends(self.hear_end)

    def _counter(self, name: str, text: str, labels: Sequence[str] = ()) -> Counter:
        return Counter(name, text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, labels: Sequence[str] = ()) -> Gauge:
        return Gauge(name, text, labels, registry=self.registry)

    # Of each flush.

    def _make_flush_metrics(self) -> None:
        self._transfers = self._counter("engine_transfers", "Decided, by outcome", ["outcome"])
        self._transfers.labels(Outcome.created.name)
        self._by_shard = self._counter("engine_shard_transfers", "Decided, by shard", ["shard"])
        self._flushes = self._counter("engine_flushes", "Committed, by kind", ["kind"])
        for kind in ("flush", "locked"):
            self._flushes.labels(kind)
        self._entries = self._counter("engine_entries", "Entries of streams that were decided")
        self._postings = self._counter("engine_postings", "Postings written")
        self._imbalance = self._gauge(
            "engine_imbalance", "The sum of all amounts that were posted here: 0"
        )
        self._expiries = self._counter("engine_hold_expiries", "Holds that expired")
        self._letters = self._counter("engine_dead_letters", "Entries that could not be read")
        self._redos = self._counter(
            "engine_redos", "Flushes decided again, as another writer came first"
        )
        self._phases = Histogram(
            "engine_flush_seconds",
            "Phases of a flush: open (deciding), ready (waiting for the one before), commit",
            ["phase"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self._sizes = Histogram(
            "engine_flush_transfers", "Transfers in a flush", buckets=SIZES, registry=self.registry
        )
        self._answers = CountedHistogram(
            "engine_answer_seconds",
            "From when Redis took an entry until its outcomes were committed, by two clocks",
            SECONDS,
        )
        self.registry.register(self._answers)

    def hear_flush(self, report: FlushReport) -> None:
        """Count a flush."""
        for outcome, count in report.outcomes.items():
            self._transfers.labels(outcome.name).inc(count)
        for shard, count in report.transfers_by_shard.items():
            self._by_shard.labels(shard).inc(count)
        self._flushes.labels(report.kind).inc()
        self._entries.inc(report.entries)
        self._postings.inc(report.postings)
        self._imbalance.inc(report.imbalance)
        self._expiries.inc(report.expiries)
        self._letters.inc(report.dead_letters)
        self._redos.inc(report.conflicts)
        if not report.is_locked:
            self._phases.labels("open").observe(report.open_seconds)
            self._phases.labels("ready").observe(report.ready_seconds)
        self._phases.labels("commit").observe(report.commit_seconds)
        self._sizes.observe(sum(report.outcomes.values()))
        now_ms = time.time() * 1000
        for ms, count in report.entries_by_ms.items():
            self._answers.observe(max(now_ms - ms, 0) / 1000, count)

    # Of the workers of this process.

    def _make_worker_metrics(self) -> None:
        self._ends = self._counter(
            "engine_session_ends", "Sessions of workers that ended, by cause", ["cause"]
        )
        for cause in ("postgres", "redis", "other"):
            self._ends.labels(cause)
        ready = self._gauge("engine_workers_ready", "Workers here that have all their shards")
        ready.set_function(lambda: sum(worker.ready.is_set() for worker in self._workers))
        there = self._gauge("engine_workers", "Workers of this process")
        there.set(len(self._workers))
        owned = self._gauge("engine_owned_shards", "Shards that workers of this process own")
        owned.set_function(lambda: sum(len(worker.owned) for worker in self._workers))
        fill = self._gauge(
            "engine_worker_fill_ratio", "Of the fullest worker here: of what it may hold", ["bound"]
        )
        fill.labels("inbox").set_function(self._inbox_fill)
        fill.labels("accounts").set_function(self._accounts_fill)
        self.registry.register(LostCommits(self._workers))
        self._late = Histogram(
            "engine_event_loop_lag_seconds",
            "By how much the event loop of this process is late",
            buckets=SECONDS,
            registry=self.registry,
        )

    def _inbox_fill(self) -> float:
        return max(
            (w.inbox_transfers / w.settings.inbox_transfers_max for w in self._workers), default=0.0
        )

    def _accounts_fill(self) -> float:
        return max((w.accounts / w.settings.accounts_max for w in self._workers), default=0.0)

    def hear_end(self, error: EngineError) -> None:
        """Count a session that ended."""
        text = str(error)
        cause = next((name for name in ("Postgres", "Redis") if text.startswith(name)), "other")
        self._ends.labels(cause.lower()).inc()

    @property
    def unready(self) -> list[str]:
        """Why this process is not ready; empty where it is."""
        left = [worker for worker in self._workers if not worker.ready.is_set()]
        return (
            [f"{len(left)} of {len(self._workers)} workers have not all their shards"]
            if left
            else []
        )

    # What goes on beside the workers.

    async def ask_servers(self, postgres_dsn: str, redis_url: str, prefix: str) -> None:
        """Ask both servers again and again, for ever."""
        while True:
            try:
                self.ledger.set_facts(await gather(postgres_dsn, redis_url, prefix))
            except EngineError as error:
                _log.warning("facts_not_gathered", reason=str(error))
            await asyncio.sleep(FACTS_SECONDS)

    async def watch_loop(self) -> None:
        """Measure again and again how late the event loop is, for ever."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + LOOP_SECONDS
            await asyncio.sleep(LOOP_SECONDS)
            self._late.observe(max(loop.time() - due, 0.0))
