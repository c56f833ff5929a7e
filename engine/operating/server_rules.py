"""Rules about the servers: whether they are there, keep what they take, and have room."""

from typing import Final

from engine.operating.facts import Facts
from engine.operating.findings import Verdict, Verdicts
from engine.operating.phrases import describe_bytes, describe_seconds

DISK_SHARE_URGENT: Final = 0.05
DISK_SHARE_WARNING: Final = 0.15
MEMORY_SHARE_URGENT: Final = 0.9
MEMORY_SHARE_WARNING: Final = 0.75
CONNECTIONS_SHARE_MAX: Final = 0.9
TRANSACTION_AGE_URGENT: Final = 1_500_000_000
"""Of 2,147,483,648, where Postgres stops taking writes."""
FREEZE_AGE_FACTOR: Final = 2
"""Autovacuum begins at `autovacuum_freeze_max_age`; twice that, and it does not keep up."""
OPEN_SECONDS_MAX: Final = 600.0
IDLE_SLOT_BYTES_MAX: Final = 1024**3
VERIFIED_SECONDS_MAX: Final = 7 * 86_400.0


def postgres_is_away(facts: Facts) -> Verdicts:
    """Nothing is decided without it."""
    if facts.postgres_error is not None:
        yield Verdict(
            "urgent",
            f"the ledger cannot be asked: {facts.postgres_error}",
            f"pg_isready -d '{facts.postgres_address}'",
        )


def redis_is_away(facts: Facts) -> Verdicts:
    """Producers cannot send without it."""
    if facts.redis_error is not None:
        yield Verdict(
            "urgent",
            f"the streams cannot be asked: {facts.redis_error}",
            f"redis-cli -u '{facts.redis_address}' ping",
        )


def postgres_is_a_standby(facts: Facts) -> Verdicts:
    """It takes no writes."""
    if facts.server is not None and facts.server.is_standby:
        yield Verdict(
            "urgent",
            "this Postgres is a standby and takes no writes",
            f"psql '{facts.postgres_address}' -c 'TABLE pg_stat_wal_receiver'",
        )


def redis_is_a_replica(facts: Facts) -> Verdicts:
    """It takes no entries, or loses them."""
    for node in facts.redis:
        if node.info.get("role", "master") != "master":
            yield Verdict(
                "urgent",
                "this Redis is a replica: requests cannot be sent to it",
                f"redis-cli -u '{facts.redis_address}' role",
            )


def a_standby_is_missing(facts: Facts) -> Verdicts:
    """Every commit waits for one."""
    server = facts.server
    if server is not None and server.synchronous_standbys and not server.synchronous_standbys_there:
        yield Verdict(
            "urgent",
            f"commits wait for synchronous standbys ({server.synchronous_standbys}), of which "
            "none is connected: nothing is decided",
            f"psql '{facts.postgres_address}' -c 'TABLE pg_stat_replication'",
        )


def migrations_differ(facts: Facts) -> Verdicts:
    """Program and ledger must be of one version."""
    if facts.server is None or facts.server.migration == facts.migration_known:
        return
    there, known = facts.server.migration, facts.migration_known
    if there < known:
        yield Verdict(
            "warning",
            f"the ledger has migration {there} and this program knows {known}: stop all workers, "
            "then bring it up to date",
            "engine init",
        )
    else:
        yield Verdict(
            "warning",
            f"the ledger has migration {there}, newer than this program, which knows {known}",
            "pip install --upgrade transfer-engine",
        )


def commits_can_be_lost(facts: Facts) -> Verdicts:
    """Settings under which Postgres forgets what it said was committed."""
    if facts.server is None:
        return
    for name in ("fsync", "full_page_writes"):
        if getattr(facts.server, name) != "on":
            yield Verdict(
                "urgent",
                f"Postgres runs with {name} off: a power cut loses what was answered",
                f"psql '{facts.postgres_address}' -c 'ALTER SYSTEM SET {name} = on'",
            )
    if facts.server.synchronous_commit == "off":
        yield Verdict(
            "warning",
            "synchronous_commit is off for all who do not set it themselves; workers do",
            f"psql '{facts.postgres_address}' -c 'ALTER SYSTEM SET synchronous_commit = on'",
        )


def requests_can_be_lost(facts: Facts) -> Verdicts:
    """Settings under which Redis drops requests that nobody has decided yet."""
    redis_cli = f"redis-cli -u '{facts.redis_address}'"
    for node in facts.redis:
        if node.info.get("aof_last_write_status", "ok") != "ok":
            yield Verdict(
                "urgent",
                "Redis cannot write its append-only file: is its disk full?",
                f"{redis_cli} info persistence",
            )
        policy = node.settings.get("maxmemory-policy", "noeviction")
        if policy not in {"noeviction", ""} and not policy.startswith("volatile-"):
            yield Verdict(
                "urgent",
                f"Redis throws keys away when it is full (maxmemory-policy {policy}): whole "
                "streams of requests could vanish",
                f"{redis_cli} config set maxmemory-policy noeviction",
            )
        if node.settings.get("appendonly") == "no":
            yield Verdict(
                "warning",
                "Redis keeps no append-only file: requests that wait are lost when it is killed, "
                "and their producers send them again only where they wait for answers",
                f"{redis_cli} config set appendonly yes",
            )


def redis_is_full(facts: Facts) -> Verdicts:
    """It refuses requests."""
    for node in facts.redis:
        used, most = int(node.info.get("used_memory", 0)), int(node.info.get("maxmemory", 0))
        if most and used > MEMORY_SHARE_WARNING * most:
            is_urgent = used > MEMORY_SHARE_URGENT * most
            yield Verdict(
                "urgent" if is_urgent else "warning",
                f"Redis uses {used / most:.0%} of its maxmemory of {describe_bytes(most)}"
                + (" and is about to refuse requests" if is_urgent else ""),
                f"redis-cli -u '{facts.redis_address}' config set maxmemory {2 * most}",
            )


def disks_are_full(facts: Facts) -> Verdicts:
    """Nothing can be written."""
    for disk in facts.disks:
        share = disk.free_bytes / max(disk.total_bytes, 1)
        if share < DISK_SHARE_WARNING:
            yield Verdict(
                "urgent" if share < DISK_SHARE_URGENT else "warning",
                f"the disk of {disk.path} has {describe_bytes(disk.free_bytes)} left, {share:.0%}",
                f"df -h {disk.path}",
            )


def a_slot_keeps_the_log(facts: Facts) -> Verdicts:
    """A replication slot that nobody reads fills the disk."""
    if facts.server is not None and facts.server.idle_slot_bytes > IDLE_SLOT_BYTES_MAX:
        yield Verdict(
            "warning",
            f"{describe_bytes(facts.server.idle_slot_bytes)} of the log are kept for a replication "
            "slot that nobody reads",
            f"psql '{facts.postgres_address}' -c 'TABLE pg_replication_slots'",
        )


def transaction_ids_run_out(facts: Facts) -> Verdicts:
    """Postgres stops taking writes before they wrap around."""
    server = facts.server
    if server is None:
        return
    command = f"vacuumdb --all --freeze -d '{facts.postgres_address}'"
    if server.transaction_age > TRANSACTION_AGE_URGENT:
        yield Verdict(
            "urgent",
            f"the oldest transaction id is {server.transaction_age:,} transactions old: Postgres "
            "takes no writes from 2,147 million on",
            command,
        )
    elif server.transaction_age > FREEZE_AGE_FACTOR * server.freeze_age_max:
        yield Verdict(
            "warning",
            f"the oldest transaction id is {server.transaction_age:,} transactions old: "
            "autovacuum does not keep up, or a transaction is open for ever",
            command,
        )
    if server.autovacuum != "on":
        yield Verdict(
            "warning",
            "autovacuum is off: plans grow bad and transaction ids run out",
            f"psql '{facts.postgres_address}' -c 'ALTER SYSTEM SET autovacuum = on'",
        )


def transactions_are_open(facts: Facts) -> Verdicts:
    """They keep dead rows and, with DDL, everybody from working."""
    for held in facts.transactions:
        if held.blocks_seconds is None and held.seconds > OPEN_SECONDS_MAX:
            yield Verdict(
                "warning",
                f"process {held.pid} of Postgres ({held.application or 'no name'}, {held.state}) "
                f"has had a transaction open for {describe_seconds(held.seconds)}",
                f"psql '{facts.postgres_address}' -c 'SELECT pg_terminate_backend({held.pid})'",
            )


def connections_run_out(facts: Facts) -> Verdicts:
    """A worker that starts would get none."""
    server = facts.server
    if server is not None and server.connections > CONNECTIONS_SHARE_MAX * server.connections_max:
        yield Verdict(
            "warning",
            f"{server.connections} of {server.connections_max} connections to Postgres are taken",
            f"psql '{facts.postgres_address}' -c 'TABLE pg_stat_activity'",
        )


def nobody_verifies(facts: Facts) -> Verdicts:
    """Whether the promises are kept is known only by looking."""
    server = facts.server
    if server is None or server.newest_flush == 0 or server.verified_passed is False:
        return
    if server.verified_seconds_ago is None:
        yield Verdict("note", "the ledger was never verified", "engine verify")
    elif server.verified_seconds_ago > VERIFIED_SECONDS_MAX:
        ago = describe_seconds(server.verified_seconds_ago)
        yield Verdict("note", f"the ledger was last verified {ago} ago", "engine verify")
