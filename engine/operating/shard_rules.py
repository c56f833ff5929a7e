"""Rules about the ledger and its shards: what is right, what has no worker, what waits."""

from typing import Final

from engine.operating.facts import Facts
from engine.operating.findings import Verdict, Verdicts
from engine.operating.phrases import describe_count, describe_seconds, describe_shards
from engine.store.reports import ShardReport

WAITING_SECONDS_MAX: Final = 30.0
SKEW_SECONDS_WARNING: Final = 1.0
SKEW_SECONDS_URGENT: Final = 10.0
LOAD_SHARE_MAX: Final = 0.5
"""Of all transfers, through one shard, where there are several shards with work."""
LOAD_MIN: Final = 1000.0
"""Transfers a second, below which a lopsided load harms nobody."""
BACKLOG_ENTRIES_MAX: Final = 10_000


def verify_failed(facts: Facts) -> Verdicts:
    """The last check of the ledger found faults."""
    if facts.server is not None and facts.server.verified_passed is False:
        names = ", ".join(facts.server.verified_failed or ())
        yield Verdict(
            "urgent",
            f"the last verify did not pass: {names}. Stop sending, keep servers and logs",
            "engine verify --json",
        )


def clocks_differ(facts: Facts) -> Verdicts:
    """Flushes are dated by their workers, leases by Postgres, waiting by Redis."""
    for name, skew in (
        ("Postgres", facts.postgres_skew_seconds),
        ("Redis", facts.redis_skew_seconds),
    ):
        if skew is not None and abs(skew) > SKEW_SECONDS_WARNING:
            way = "ahead of" if skew > 0 else "behind"
            yield Verdict(
                "urgent" if abs(skew) > SKEW_SECONDS_URGENT else "warning",
                f"the clock of {name} is {describe_seconds(abs(skew))} {way} this machine's",
                "timedatectl status",
            )
    server = facts.server
    if server is not None and server.newest_flush_time > server.clock + SKEW_SECONDS_WARNING:
        ahead = server.newest_flush_time - server.clock
        yield Verdict(
            "urgent" if ahead > SKEW_SECONDS_URGENT else "warning",
            f"the newest flush is dated {describe_seconds(ahead)} after the clock of Postgres: a "
            "worker's clock was ahead, and all later flushes are dated after it",
            "timedatectl status",
        )


def sequences_are_behind(facts: Facts) -> Verdicts:
    """As after a restore of data without its sequences."""
    server = facts.server
    if server is None:
        return
    if server.flush_numbers < server.newest_flush:
        yield Verdict(
            "urgent",
            f"the sequence ledger.flush_numbers is at {server.flush_numbers}, behind flush "
            f"{server.newest_flush}: flushes will fail",
            f"psql '{facts.postgres_address}' -c "
            f"\"SELECT setval('ledger.flush_numbers', {server.newest_flush})\"",
        )
    if server.account_numbers < server.newest_account:
        yield Verdict(
            "urgent",
            f"the numbers of accounts are at {server.account_numbers}, behind account "
            f"{server.newest_account}: new accounts will fail",
            f"psql '{facts.postgres_address}' -c "
            "\"SELECT setval(pg_get_serial_sequence('ledger.accounts', 'number'), "
            f'{server.newest_account})"',
        )


def streams_are_older(facts: Facts) -> Verdicts:
    """Another Redis than the workers', or one that came back older."""
    behind = [
        s.shard
        for s in facts.shards
        if s.shard in facts.ends
        and (facts.ends[s.shard].last.ms, facts.ends[s.shard].last.seq) < (s.ms, s.seq)
    ]
    if not behind:
        return
    workers = [worker for worker in facts.workers if worker.alive and worker.shards]
    if workers:
        yield Verdict(
            "urgent",
            f"the streams of shards {describe_shards(behind)} are behind what is decided: this is "
            "another Redis than the workers', or one that came back older",
            f"redis-cli -u '{facts.redis_address}' info replication",
        )
    else:
        yield Verdict(
            "urgent",
            f"the streams of shards {describe_shards(behind)} are behind what is decided: another "
            "Redis than before, or one that came back older; a worker moves them forward",
            f"engine worker --redis-url '{facts.redis_address}'",
        )


def shards_have_no_worker(facts: Facts) -> Verdicts:
    """What is sent to them waits."""
    free = [s.shard for s in facts.shards if s.worker is None and s.target is None]
    if not free:
        return
    names = describe_shards(free)
    alive = [worker for worker in facts.workers if worker.alive]
    some = "all shards" if len(free) == len(facts.shards) else f"shards {names}"
    option = "" if len(free) == len(facts.shards) else f" --shards {names}"
    if alive and all(worker.drained for worker in alive):
        why = (
            f"{some} have no worker: the {describe_count(len(alive), 'living worker')} were drained"
        )
        yield Verdict("urgent", f"{why} and take none by themselves", "engine worker")
    elif alive and all(worker.drained or worker.is_listed for worker in alive):
        why = f"{some} have no worker: those that live were told to work on others"
        yield Verdict("urgent", why, f"engine worker{option}")
    else:
        yield Verdict(
            "urgent",
            f"{some} have no worker: what is sent to them waits",
            f"engine worker{option}",
        )


def entries_wait(facts: Facts) -> Verdicts:
    """A shard is behind although its worker lives."""
    late = _late(facts)
    if not late:
        return
    seconds = max(facts.waiting[s.shard].oldest_seconds or 0 for s in late)
    entries = sum(facts.waiting[s.shard].entries for s in late)
    decided = sum(s.transfers_per_second for s in late)
    if decided:
        why = f"{decided:,.0f} transfers a second are decided; more workers would decide more"
    else:
        why = "its worker decides nothing: see its log"
    yield Verdict(
        "urgent",
        f"shards {describe_shards(s.shard for s in late)} are behind: {entries:,} entries wait, "
        f"the oldest for {describe_seconds(seconds)}; {why}",
        "engine worker" if decided else "engine events --since 10m",
    )


def _late(facts: Facts) -> list[ShardReport]:
    return [
        s
        for s in facts.shards
        if s.alive
        and s.shard in facts.waiting
        and (facts.waiting[s.shard].oldest_seconds or 0) > WAITING_SECONDS_MAX
    ]


def a_backlog_grows(facts: Facts) -> Verdicts:
    """Much waits, though not for long yet."""
    entries = sum(waiting.entries for waiting in facts.waiting.values())
    late = any((w.oldest_seconds or 0) > WAITING_SECONDS_MAX for w in facts.waiting.values())
    if entries > BACKLOG_ENTRIES_MAX and not late:
        yield Verdict("warning", f"{entries:,} entries wait in the streams", "engine status")


def holds_are_overdue(facts: Facts) -> Verdicts:
    """A shard's worker does not flush."""
    if facts.report is not None and facts.report.holds_overdue:
        yield Verdict(
            "urgent",
            f"{facts.report.holds_overdue:,} holds are past their time and not released: their "
            "shards' workers do not flush",
            "engine events --since 10m",
        )


def letters_are_open(facts: Facts) -> Verdicts:
    """Requests that nobody could read, and nobody has dealt with."""
    if facts.server is not None and facts.server.letters_open:
        newest = facts.server.letter_newest
        yield Verdict(
            "warning",
            f"{describe_count(facts.server.letters_open, 'dead letter')} that nobody dealt with: "
            "requests that could not be read",
            f"engine letters show {newest}",
        )


def nobody_reads_streams(facts: Facts) -> Verdicts:
    """Requests were sent to a stream that no shard has."""
    for name, entries in sorted(facts.strays.items()):
        yield Verdict(
            "warning",
            f"nobody reads the stream {name} with {describe_count(entries, 'entry', 'entries')}: "
            f"the ledger has shards 0 to {len(facts.shards) - 1}",
            f"redis-cli -u '{facts.redis_address}' xrange '{name}' - + count 10",
        )


def shards_are_lopsided(facts: Facts) -> Verdicts:
    """One shard, or one account in it, takes most of the load; urgent where it is behind."""
    total = sum(s.transfers_per_second for s in facts.shards)
    if len(facts.shards) < 2 or total < LOAD_MIN:
        return
    most = max(facts.shards, key=lambda s: s.transfers_per_second)
    if most.transfers_per_second <= LOAD_SHARE_MAX * total:
        return
    hot = facts.hot_accounts.get(most.shard)
    whose = "" if hot is None else f", {hot.share:.0%} of them out of account {hot.account}"
    is_late = most in _late(facts)
    behind = " and it is behind" if is_late else ""
    yield Verdict(
        "urgent" if is_late else "note",
        f"{most.transfers_per_second / total:.0%} of all transfers go through shard "
        f"{most.shard}{behind}{whose}: one worker decides them, which should have no other shards",
        "shards plan --out plan.json",
    )
