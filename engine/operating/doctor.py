"""`doctor`: all rules, applied to all facts. Pure: facts in, findings out.

A rule stands before those whose findings its own explains: a server that is away before what
waits for it. So of findings that are equally urgent the cause comes first.
"""

from collections.abc import Callable
from typing import Final, TypeAlias

from engine.operating import server_rules, shard_rules, worker_rules
from engine.operating.facts import Facts
from engine.operating.findings import Finding, Severity, Verdicts

SEVERITIES: Final[tuple[Severity, ...]] = ("urgent", "warning", "note")

Rule: TypeAlias = Callable[[Facts], Verdicts]

RULES: Final[tuple[Rule, ...]] = (
    server_rules.postgres_is_away,
    server_rules.redis_is_away,
    server_rules.postgres_is_a_standby,
    server_rules.redis_is_a_replica,
    shard_rules.verify_failed,
    server_rules.commits_can_be_lost,
    server_rules.a_standby_is_missing,
    server_rules.disks_are_full,
    server_rules.redis_is_full,
    server_rules.requests_can_be_lost,
    shard_rules.sequences_are_behind,
    shard_rules.streams_are_older,
    shard_rules.clocks_differ,
    worker_rules.workers_say_they_wait,
    worker_rules.workers_are_blocked,
    worker_rules.commits_are_slow,
    shard_rules.shards_have_no_worker,
    worker_rules.owners_are_dead,
    server_rules.transaction_ids_run_out,
    shard_rules.shards_are_lopsided,
    shard_rules.entries_wait,
    shard_rules.holds_are_overdue,
    server_rules.migrations_differ,
    shard_rules.letters_are_open,
    shard_rules.nobody_reads_streams,
    server_rules.a_slot_keeps_the_log,
    shard_rules.a_backlog_grows,
    server_rules.transactions_are_open,
    server_rules.connections_run_out,
    worker_rules.flushes_are_locked,
    worker_rules.workers_are_drained,
    server_rules.nobody_verifies,
)


def judge(facts: Facts) -> list[Finding]:
    """All findings, the most urgent first; of those the causes before what follows from them."""
    found = [
        Finding(verdict.severity, verdict.finding, verdict.command, rule.__name__)
        for rule in RULES
        for verdict in rule(facts)
    ]
    return sorted(found, key=lambda finding: SEVERITIES.index(finding.severity))
