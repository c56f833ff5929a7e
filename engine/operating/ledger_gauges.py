"""Gauges of the whole ledger, set from the facts of `doctor`; every process tells the same."""

from collections.abc import Sequence
from typing import Final

from prometheus_client import CollectorRegistry, Gauge

from engine.operating.doctor import judge
from engine.operating.facts import Facts

TRANSACTION_AGE_MAX: Final = 2_147_483_648
"""At which Postgres has stopped to take writes."""


class LedgerGauges:
    """What all processes together are to keep in order.

    Args:
        registry: Where they are told.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        def gauge(name: str, text: str, labels: Sequence[str] = ()) -> Gauge:
            return Gauge(name, text, labels, registry=registry)

        self._seen: set[tuple[str, str]] = set()
        """Findings that there ever were."""
        self._asked = gauge(
            "engine_facts_timestamp_seconds", "When this process last asked both servers"
        )
        self._server_up = gauge("engine_server_up", "Whether it answers", ["server"])
        self._findings = gauge(
            "engine_finding", "1 where `engine doctor` finds it", ["rule", "severity"]
        )
        self._waiting = gauge("engine_waiting_entries", "Not decided yet", ["shard"])
        self._oldest = gauge(
            "engine_oldest_waiting_seconds", "For how long the oldest entry waits", ["shard"]
        )
        self._unowned = gauge("engine_unowned_shards", "Without a living worker")
        self._alive = gauge("engine_living_workers", "In all processes")
        self._open = gauge("engine_open_letters", "Dead letters that nobody dealt with")
        self._overdue = gauge("engine_overdue_holds", "Past their time, not released")
        self._failed = gauge(
            "engine_failed_checks", "Checks that the last `engine verify` found not kept"
        )
        self._skew = gauge(
            "engine_clock_skew_seconds", "Of a server, ahead of this machine", ["server"]
        )
        self._memory = gauge("engine_redis_memory_bytes", "In use")
        self._memory_max = gauge("engine_redis_memory_max_bytes", "0 for no limit")
        self._database = gauge("engine_database_bytes", "Size of the ledger's database")
        self._xids = gauge("engine_transaction_age", "Of the oldest transaction id")
        self._lease = gauge("engine_lease_seconds", "Left of a living worker's lease", ["worker"])
        self._pause = gauge(
            "engine_handover_pause_seconds",
            "The longest that a shard stood still while it was moved, of the last 10 minutes",
        )
        self._fill = gauge("engine_bound_fill_ratio", "Of what there may be at most", ["bound"])

    def set_facts(self, facts: Facts) -> None:
        """Take over what was found out about the ledger."""
        self._asked.set_to_current_time()
        self._server_up.labels("postgres").set(facts.postgres_error is None)
        self._server_up.labels("redis").set(facts.redis_error is None)
        found = {(finding.rule, finding.severity) for finding in judge(facts)}
        # A finding that is gone is 0, not stale.
        self._seen |= found
        for rule, severity in self._seen:
            self._findings.labels(rule, severity).set((rule, severity) in found)
        for shard, waiting in facts.waiting.items():
            self._waiting.labels(shard).set(waiting.entries)
            self._oldest.labels(shard).set(waiting.oldest_seconds or 0)
        if facts.shards:
            self._unowned.set(sum(not shard.alive for shard in facts.shards))
        if facts.report is not None:
            self._overdue.set(facts.report.holds_overdue)
        if facts.postgres_skew_seconds is not None:
            self._skew.labels("postgres").set(facts.postgres_skew_seconds)
        if facts.redis_skew_seconds is not None:
            self._skew.labels("redis").set(facts.redis_skew_seconds)
        if facts.redis:
            infos = [node.info for node in facts.redis]
            self._memory.set(sum(int(info.get("used_memory", 0)) for info in infos))
            self._fill.labels("redis_memory").set(_fill_of_memory(facts))
            self._memory_max.set(sum(int(info.get("maxmemory", 0)) for info in infos))
        if facts.disks:
            fullest = min(disk.free_bytes / max(disk.total_bytes, 1) for disk in facts.disks)
            self._fill.labels("disk").set(1 - fullest)
        self._set_server(facts)

    def _set_server(self, facts: Facts) -> None:
        server = facts.server
        if server is None:
            return
        self._open.set(server.letters_open)
        self._failed.set(len(server.verified_failed or ()))
        self._database.set(server.database_bytes)
        self._xids.set(server.transaction_age)
        alive = [worker for worker in facts.workers if worker.alive]
        self._alive.set(len(alive))
        self._lease.clear()
        for worker in alive:
            self._lease.labels(worker.worker[:8]).set(worker.lease_seconds_left)
        self._pause.set(server.pause_seconds)
        self._fill.labels("connections").set(server.connections / server.connections_max)
        self._fill.labels("transaction_ids").set(server.transaction_age / TRANSACTION_AGE_MAX)


def _fill_of_memory(facts: Facts) -> float:
    """Of the fullest node of Redis; 0 where it has no limit."""
    infos = [node.info for node in facts.redis]
    limits = [(int(i.get("used_memory", 0)), int(i.get("maxmemory", 0))) for i in infos]
    return max((used / most for used, most in limits if most), default=0.0)
