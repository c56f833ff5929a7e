"""Rules about workers: who lives, what each waits for, what each makes others wait for."""

from collections.abc import Iterable
from typing import Final

from engine.operating.facts import Facts
from engine.operating.findings import Verdict, Verdicts
from engine.operating.phrases import describe_count, describe_seconds, describe_shards
from engine.store.reports import ShardReport
from engine.store.server_facts import WorkerFacts

BLOCKED_SECONDS_WARNING: Final = 1.0
BLOCKED_SECONDS_URGENT: Final = 5.0
COMMIT_SECONDS_WARNING: Final = 0.25
COMMIT_SECONDS_URGENT: Final = 1.0
"""Answers are promised within a second."""
LOCKED_FLUSHES_MAX: Final = 600
"""A minute, of one worker: ten a second."""


def workers_say_they_wait(facts: Facts) -> Verdicts:
    """They live and say why they cannot work: Redis is away for them, or their clock is off."""
    for worker in facts.workers:
        if worker.says is None:
            continue
        if "clock" in worker.says:
            command = "timedatectl status"
        elif "Redis" in worker.says:
            command = f"redis-cli -u '{facts.redis_address}' ping"
        else:
            command = "engine events --since 10m"
        yield Verdict(
            "urgent",
            f"process {worker.process} on {worker.host} lives and has been waiting for "
            f"{describe_seconds(worker.says_seconds)}: {worker.says}",
            command,
        )


def commits_are_slow(facts: Facts) -> Verdicts:
    """All answers wait for them: for a disk or a standby, where nobody's locks are in the way."""
    for worker in facts.workers:
        waits = worker.waits_for or ""
        waited = 0.0 if waits.startswith("Lock ") else worker.waits_seconds
        seconds = max(worker.commit_seconds, waited)
        if not worker.alive or seconds < COMMIT_SECONDS_WARNING:
            continue
        if "SyncRep" in waits:
            why = f"Postgres waits for its standby ({waits})"
            command = f"psql '{facts.postgres_address}' -c 'TABLE pg_stat_replication'"
        elif waits.startswith("IO "):
            why = f"Postgres waits for its disk ({waits})"
            command = "iostat -x 1 3"
        elif waits.startswith("Lock ") or _is_blocked(facts):
            continue
        else:
            why = f"Postgres waits for {waits}" if waits else "Postgres was slow"
            command = f"psql '{facts.postgres_address}' -c 'TABLE pg_stat_activity'"
        yield Verdict(
            "urgent" if seconds > COMMIT_SECONDS_URGENT else "warning",
            f"commits of process {worker.process} on {worker.host} take up to "
            f"{describe_seconds(seconds)}: {why}",
            command,
        )


def _is_blocked(facts: Facts) -> bool:
    return any(held.blocks_seconds for held in facts.transactions)


def workers_are_blocked(facts: Facts) -> Verdicts:
    """Somebody's transaction stands in the way."""
    for held in facts.transactions:
        waited = held.blocks_seconds or 0
        if waited < BLOCKED_SECONDS_WARNING or held.is_living_worker:
            continue
        yield Verdict(
            "urgent" if waited > BLOCKED_SECONDS_URGENT else "warning",
            f"a worker has been waiting for {describe_seconds(waited)} for a lock of process "
            f"{held.pid} of Postgres ({held.application or 'no name'}, {held.state})",
            f"psql '{facts.postgres_address}' -c 'SELECT pg_terminate_backend({held.pid})'",
        )


def owners_are_dead(facts: Facts) -> Verdicts:
    """Their leases are over and nobody has taken their shards."""
    waiting = {worker.worker for worker in facts.workers if worker.says is not None}
    lost: dict[str, list[ShardReport]] = {}
    for shard in facts.shards:
        if shard.worker is not None and not shard.alive and shard.worker not in waiting:
            lost.setdefault(shard.worker, []).append(shard)
    for shards in lost.values():
        names = describe_shards(shard.shard for shard in shards)
        since = describe_seconds(max(shards[0].expired_seconds or 0, 0))
        yield Verdict(
            "urgent",
            f"the worker of shards {names} is dead or frozen (process {shards[0].process} on "
            f"{shards[0].host}): its lease ended {since} ago, and nobody takes them over",
            f"engine worker --shards {names}",
        )


def workers_are_drained(facts: Facts) -> Verdicts:
    """They take no shards by themselves."""
    drained = [worker for worker in facts.workers if worker.alive and worker.drained]
    if drained and any(s.worker is not None for s in facts.shards):
        yield Verdict(
            "note",
            f"{describe_count(len(drained), 'worker')} drained: {_names(drained)}. They take no "
            "shards while others live",
            "shards status",
        )


def flushes_are_locked(facts: Facts) -> Verdicts:
    """Transfers that need the accounts of several workers make them wait for each other."""
    by_worker = {s.worker: s.locked_flushes for s in facts.shards if s.worker is not None}
    many = {worker: count for worker, count in by_worker.items() if count > LOCKED_FLUSHES_MAX}
    if many:
        yield Verdict(
            "note",
            f"{max(many.values()):,} locked flushes within a minute of one worker: accounts that "
            "often meet are with different workers",
            "shards plan --out plan.json",
        )


def _names(workers: Iterable[WorkerFacts]) -> str:
    return ", ".join(f"process {worker.process} on {worker.host}" for worker in workers)
