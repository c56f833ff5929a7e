"""What the doctor makes of facts: a row for each rule, and that the cause comes first."""

from typing import Any

import msgspec
import pytest

from engine.ledger.nouns import Position
from engine.operating.doctor import RULES, SEVERITIES, judge
from engine.operating.facts import Disk, Facts, without_password
from engine.operating.hot_accounts import HotAccount
from engine.store.reports import ServerReport, ShardReport
from engine.store.server_facts import ServerFacts, TransactionFacts, WorkerFacts
from engine.streams.inspection import RedisFacts
from engine.streams.streams import StreamEnds, Waiting

NOW = 1_800_000_000.0
W = "019b0000-0000-7000-8000-000000000001"

SERVER = ServerFacts(
    version="18.0",
    version_major=18,
    clock=NOW,
    is_standby=False,
    fsync="on",
    full_page_writes="on",
    synchronous_commit="on",
    synchronous_standbys="",
    synchronous_standbys_there=0,
    autovacuum="on",
    freeze_age_max=200_000_000,
    transaction_age=1000,
    connections_max=100,
    connections=10,
    data_directory=None,
    database_bytes=1,
    idle_slot_bytes=0,
    migration=7,
    flush_numbers=10,
    newest_flush=9,
    newest_flush_time=NOW - 1,
    account_numbers=4,
    newest_account=4,
    letters_open=0,
    letter_newest=None,
    pause_seconds=0.0,
    verified_seconds_ago=60.0,
    verified_passed=True,
    verified_failed=[],
)
WORKER = WorkerFacts(W, "host", 1, False, False, True, 4.0, 2, None)
NODE = RedisFacts(
    {"used_memory": "10", "maxmemory": "100", "role": "master", "aof_last_write_status": "ok"},
    {"maxmemory-policy": "noeviction", "appendonly": "yes", "dir": "/none"},
    NOW,
)
HELD = TransactionFacts(42, "psql", "idle in transaction", 9.0, 9.0, False)


def shard(number: int, **changes: Any) -> ShardReport:
    seat = ShardReport(number, W, True, "host", 1, None, 0, 5, 0, "5-0", None, 100.0, 0, None)
    return msgspec.structs.replace(seat, **changes)


def ends(ms: int) -> StreamEnds:
    return StreamEnds(None, Position(0, ms, 0), 0)


def facts(**changes: Any) -> Facts:
    healthy = Facts(
        postgres_address="postgresql://engine@db/engine",
        redis_address="redis://redis/0",
        server=SERVER,
        report=ServerReport("18.0", 2, 7, 0, 0, 0, 0),
        migration_known=7,
        workers=[WORKER],
        shards=[shard(0), shard(1)],
        redis=[NODE],
        waiting={0: Waiting(0, None), 1: Waiting(0, None)},
        ends={0: ends(5), 1: ends(5)},
        postgres_skew_seconds=0.0,
        redis_skew_seconds=0.0,
        disks=[Disk("/data", 50, 100)],
    )
    return msgspec.structs.replace(healthy, **changes)


def server(**changes: Any) -> dict[str, Any]:
    return {"server": msgspec.structs.replace(SERVER, **changes)}


def redis(**changes: Any) -> dict[str, Any]:
    return {"redis": [msgspec.structs.replace(NODE, **changes)]}


def worker(**changes: Any) -> WorkerFacts:
    return msgspec.structs.replace(WORKER, **changes)


FREE = [shard(0, worker=None, alive=False), shard(1, worker=None, alive=False)]
LATE = {0: Waiting(40, 31.0), 1: Waiting(0, None)}

TABLE: list[tuple[str, str, dict[str, Any]]] = [
    ("postgres_is_away", "urgent", {"postgres_error": "gone", "server": None, "report": None}),
    ("redis_is_away", "urgent", {"redis_error": "gone", "redis": []}),
    ("postgres_is_a_standby", "urgent", server(is_standby=True)),
    ("redis_is_a_replica", "urgent", redis(info=NODE.info | {"role": "slave"})),
    ("a_standby_is_missing", "urgent", server(synchronous_standbys="s1")),
    ("migrations_differ", "warning", server(migration=6)),
    ("migrations_differ", "warning", server(migration=8)),
    ("commits_can_be_lost", "urgent", server(fsync="off")),
    ("commits_can_be_lost", "urgent", server(full_page_writes="off")),
    ("commits_can_be_lost", "warning", server(synchronous_commit="off")),
    (
        "requests_can_be_lost",
        "urgent",
        redis(settings=NODE.settings | {"maxmemory-policy": "allkeys-lru"}),
    ),
    ("requests_can_be_lost", "warning", redis(settings=NODE.settings | {"appendonly": "no"})),
    ("requests_can_be_lost", "urgent", redis(info=NODE.info | {"aof_last_write_status": "err"})),
    ("redis_is_full", "warning", redis(info=NODE.info | {"used_memory": "80"})),
    ("redis_is_full", "urgent", redis(info=NODE.info | {"used_memory": "95"})),
    ("disks_are_full", "warning", {"disks": [Disk("/data", 10, 100)]}),
    ("disks_are_full", "urgent", {"disks": [Disk("/data", 1, 100)]}),
    ("a_slot_keeps_the_log", "warning", server(idle_slot_bytes=2 * 1024**3)),
    ("verify_failed", "urgent", server(verified_passed=False, verified_failed=["sums"])),
    ("clocks_differ", "warning", {"redis_skew_seconds": -2.0}),
    ("clocks_differ", "urgent", {"postgres_skew_seconds": 60.0}),
    ("clocks_differ", "urgent", server(newest_flush_time=NOW + 3600)),
    ("sequences_are_behind", "urgent", server(flush_numbers=8)),
    ("sequences_are_behind", "urgent", server(newest_account=5)),
    ("streams_are_older", "urgent", {"ends": {0: ends(4), 1: ends(5)}}),
    ("workers_are_blocked", "urgent", {"transactions": [HELD]}),
    ("shards_have_no_worker", "urgent", {"shards": FREE, "workers": []}),
    ("shards_have_no_worker", "urgent", {"shards": FREE, "workers": [worker(drained=True)]}),
    ("owners_are_dead", "urgent", {"shards": [shard(0, alive=False, expired_seconds=3.0)]}),
    ("workers_are_drained", "note", {"workers": [worker(drained=True, shards=0)]}),
    ("workers_say_they_wait", "urgent", {"workers": [worker(says="the clock is 20 s ahead")]}),
    ("workers_say_they_wait", "urgent", {"workers": [worker(says="Redis is out of reach")]}),
    ("workers_say_they_wait", "urgent", {"workers": [worker(says="something")]}),
    ("commits_are_slow", "urgent", {"workers": [worker(commit_seconds=2.0)]}),
    ("commits_are_slow", "warning", {"workers": [worker(commit_seconds=0.5)]}),
    ("commits_are_slow", "urgent", {"workers": [worker(waits_for="IO WalSync", waits_seconds=2)]}),
    (
        "commits_are_slow",
        "urgent",
        {"workers": [worker(waits_for="IPC SyncRep", waits_seconds=2.0)]},
    ),
    ("entries_wait", "urgent", {"waiting": LATE}),
    ("a_backlog_grows", "warning", {"waiting": {0: Waiting(20_000, 3.0)}}),
    ("holds_are_overdue", "urgent", {"report": ServerReport("18.0", 2, 7, 0, 3, 9, 0)}),
    ("letters_are_open", "warning", server(letters_open=1, letter_newest="0:0:5-0")),
    ("nobody_reads_streams", "warning", {"strays": {"engine:transfers:{0099}": 3}}),
    (
        "shards_are_lopsided",
        "note",
        {"shards": [shard(0, transfers_per_second=9000.0), shard(1)]},
    ),
    (
        "shards_are_lopsided",
        "urgent",
        {
            "shards": [shard(0, transfers_per_second=9000.0), shard(1)],
            "waiting": LATE,
            "hot_accounts": {0: HotAccount(W, 0.9)},
        },
    ),
    ("flushes_are_locked", "note", {"shards": [shard(0, locked_flushes=1000)]}),
    ("transaction_ids_run_out", "urgent", server(transaction_age=1_900_000_000)),
    ("transaction_ids_run_out", "warning", server(transaction_age=500_000_000)),
    ("transaction_ids_run_out", "warning", server(autovacuum="off")),
    (
        "transactions_are_open",
        "warning",
        {"transactions": [TransactionFacts(42, "psql", "active", 3600.0, None, False)]},
    ),
    ("connections_run_out", "warning", server(connections=95)),
    ("nobody_verifies", "note", server(verified_seconds_ago=None, verified_passed=None)),
    ("nobody_verifies", "note", server(verified_seconds_ago=1e7)),
]


@pytest.mark.parametrize(("rule", "severity", "changes"), TABLE)
def test_a_fault_gives_its_finding(rule: str, severity: str, changes: dict[str, Any]) -> None:
    found = judge(facts(**changes))
    assert (rule, severity) in [(finding.rule, finding.severity) for finding in found]
    assert all(finding.command for finding in found)


def test_what_is_well_gives_no_finding() -> None:
    assert judge(facts()) == []


def test_every_rule_is_in_the_table() -> None:
    assert {rule.__name__ for rule in RULES} == {rule for rule, _, _ in TABLE}


def test_the_most_urgent_comes_first() -> None:
    """Though the rule of what is less urgent comes first: it may be the cause."""
    found = judge(facts(waiting=LATE, disks=[Disk("/data", 10, 100)]))
    ranks = [SEVERITIES.index(finding.severity) for finding in found]
    assert ranks == sorted(ranks)
    assert found[0].rule == "entries_wait"


@pytest.mark.parametrize(
    ("cause", "changes"),
    [
        ("workers_are_blocked", {"transactions": [HELD], "waiting": LATE}),
        ("streams_are_older", {"ends": {0: ends(1), 1: ends(1)}, "waiting": LATE}),
        ("disks_are_full", {"disks": [Disk("/data", 1, 100)], "waiting": LATE}),
        ("a_standby_is_missing", {**server(synchronous_standbys="s1"), "waiting": LATE}),
        (
            "shards_have_no_worker",
            {"shards": [FREE[0], shard(1)], "waiting": {1: Waiting(9, 99.0)}},
        ),
    ],
)
def test_the_cause_comes_before_what_follows_from_it(cause: str, changes: dict[str, Any]) -> None:
    found = judge(facts(**changes))
    assert found[0].rule == cause
    assert "entries_wait" in [finding.rule for finding in found]


def test_a_worker_that_waits_for_a_living_one_is_no_finding() -> None:
    living = msgspec.structs.replace(HELD, is_living_worker=True)
    assert judge(facts(transactions=[living])) == []


def test_drained_workers_are_named_as_the_reason() -> None:
    [found] = [
        finding
        for finding in judge(facts(shards=FREE, workers=[worker(drained=True)]))
        if finding.rule == "shards_have_no_worker"
    ]
    assert "drained" in found.finding


@pytest.mark.parametrize(
    ("address", "printed"),
    [
        ("postgresql://engine:secret@db:5432/x", "postgresql://engine@db:5432/x"),
        ("redis://:secret@redis/0", "redis://redis/0"),
        ("redis://redis/0", "redis://redis/0"),
        ("postgresql://a:p@ss@db/x", "postgresql://a@db/x"),
        (
            "postgresql://db/x?user=a&password=s&sslmode=require",
            "postgresql://db/x?user=a&password=...&sslmode=require",
        ),
        ("postgresql://db/x?pass%77ord=s", "postgresql://db/x?pass%77ord=..."),
        ("rediss://r/0?ssl_password=s&db=1", "rediss://r/0?ssl_password=...&db=1"),
        ("host=db user=a password = 'it\\'s' dbname=x", "host=db user=a password = ... dbname=x"),
        ("host=db password=s\\ t sslpassword=u", "host=db password=... sslpassword=..."),
    ],
)
def test_no_command_shows_a_password(address: str, printed: str) -> None:
    assert without_password(address) == printed
