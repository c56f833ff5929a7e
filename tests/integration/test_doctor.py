"""The doctor on real servers: each incident is made, and its cause is what is named first."""

import uuid

import asyncpg

from engine.operating.doctor import judge
from engine.operating.facts import gather
from engine.operating.findings import Finding
from engine.operating.verifications import record_verification
from engine.servers.valkey_server import ValkeyServer
from engine.settings import WorkerSettings
from engine.store.operations import open_operations
from engine.verify.report import CheckResult, Report
from tests.desks import desk_over, transfer
from tests.ledgers import Ledger, until
from tests.moving import id_of
from tests.processes import WorkerProcess, working


async def examine(ledger: Ledger, redis_url: str | None = None) -> list[Finding]:
    return judge(await gather(ledger.dsn, redis_url or ledger.redis_url, ledger.prefix))


def pressing(findings: list[Finding]) -> list[str]:
    return [finding.rule for finding in findings if finding.severity != "note"]


async def test_a_ledger_at_work_has_nothing_pressing(ledger: Ledger) -> None:
    async with desk_over(ledger) as desk, ledger.working():
        await desk.send([transfer()])
        await desk.answers(1)
        assert pressing(await examine(ledger)) == []


async def test_shards_without_a_worker_are_urgent(ledger: Ledger) -> None:
    [first, *_] = await examine(ledger)
    assert (first.rule, first.severity) == ("shards_have_no_worker", "urgent")
    assert first.command == "engine worker"


async def test_workers_that_are_all_drained_are_named(ledger: Ledger) -> None:
    """One that is drained before it could claim anything takes nothing."""
    worker = ledger.worker(shards=[0])
    async with ledger.working(worker):
        async with open_operations(ledger.dsn) as operations:
            await operations.drain([id_of(worker)])
        [first, *_] = await examine(ledger)
    assert first.rule == "shards_have_no_worker"
    assert "drained" in first.finding


async def test_servers_that_are_away_are_named_first(ledger: Ledger) -> None:
    gone = "postgresql://engine:secret@127.0.0.1:1/none"
    found = judge(await gather(gone, "redis://127.0.0.1:1/0", ledger.prefix))
    assert [finding.rule for finding in found] == ["postgres_is_away", "redis_is_away"]
    assert not any("secret" in f.finding + f.command for f in found)


async def test_another_redis_than_the_workers_is_named_first(
    ledger: Ledger, other_redis: ValkeyServer
) -> None:
    async with desk_over(ledger) as desk, ledger.working():
        await desk.send([transfer()])
        await desk.answers(1)
        [first, *_] = await examine(ledger, other_redis.url)
    assert first.rule == "streams_are_older"


async def test_a_full_redis_is_named_first(ledger: Ledger, other_redis: ValkeyServer) -> None:
    full = Ledger(ledger.dsn, other_redis.url, ledger.prefix, ledger.shard_count)
    async with full.redis() as connection:
        info = await connection.info("memory")
        await connection.config_set("maxmemory", int(info["used_memory"] * 1.02))
        await connection.config_set("maxmemory-policy", "allkeys-lru")
        try:
            found = await examine(full)
        finally:
            await connection.config_set("maxmemory", 0)
            await connection.config_set("maxmemory-policy", "noeviction")
    assert [finding.rule for finding in found][:2] == ["redis_is_full", "requests_can_be_lost"]


async def test_who_stands_in_a_workers_way_is_named_first(ledger: Ledger) -> None:
    async with desk_over(ledger) as desk, ledger.working() as [worker]:
        blocker = await asyncpg.connect(ledger.dsn, server_settings={"application_name": "psql"})
        try:
            await blocker.execute("BEGIN")
            await blocker.fetch(
                "SELECT FROM ledger.workers WHERE worker = $1 FOR UPDATE", uuid.UUID(id_of(worker))
            )
            await desk.send([transfer()])

            async def is_named() -> bool:
                [first, *_] = await examine(ledger)
                return first.rule == "workers_are_blocked" and "psql" in first.finding

            await until(is_named, "the transaction in the way to be named")
        finally:
            await blocker.close()
        await desk.answers(1)


async def test_a_frozen_worker_is_named_first_until_another_takes_over(ledger: Ledger) -> None:
    settings = WorkerSettings(lease_seconds=1.0)
    frozen = WorkerProcess(ledger, settings=settings)
    async with working(frozen), desk_over(ledger) as desk:
        frozen.freeze()
        await desk.send([transfer()])

        async def is_named() -> bool:
            [first, *_] = await examine(ledger)
            return first.rule == "owners_are_dead" and first.severity == "urgent"

        await until(is_named, "the frozen worker to be named")
        async with ledger.working(ledger.worker(settings=settings)):
            await desk.answers(1)
            assert pressing(await examine(ledger)) == []
        frozen.thaw()


async def test_a_stream_that_nobody_reads_is_found(ledger: Ledger) -> None:
    async with desk_over(ledger) as desk, ledger.working():
        await desk.send([transfer()], shard=99)
        found = await examine(ledger)
        await desk.redis.delete(desk.stream(99))
    [beyond] = [finding for finding in found if finding.rule == "nobody_reads_streams"]
    assert desk.stream(99) in beyond.finding


async def test_a_sequence_behind_its_rows_is_found(ledger: Ledger) -> None:
    async with desk_over(ledger) as desk, ledger.working():
        await desk.send([transfer()])
        await desk.answers(1)
    await ledger.sql("SELECT setval('ledger.flush_numbers', 1)")
    assert "sequences_are_behind" in pressing(await examine(ledger))


async def test_a_dead_letter_is_found_until_somebody_deals_with_it(ledger: Ledger) -> None:
    async with desk_over(ledger) as desk, ledger.working():
        await desk.redis.xadd(desk.stream(), {"json": "{"})
        await desk.drained()
        [found] = [f for f in await examine(ledger) if f.rule == "letters_are_open"]
        letter = found.command.rpartition(" ")[2]
        [row] = await ledger.sql("SELECT * FROM ledger.letters")
        assert letter == row["letter"]
        await ledger.sql(
            "INSERT INTO ledger.letter_acts (shard, generation, ms, seq, kind, acted_by, reason)"
            " VALUES ($1, $2, $3, $4, 'dismissed', 'a test', 'no need')",
            *(row[name] for name in ("shard", "generation", "ms", "seq")),
        )
        assert "letters_are_open" not in pressing(await examine(ledger))


async def test_a_worker_that_is_dead_is_urgent_until_its_shards_are_taken(ledger: Ledger) -> None:
    await ledger.sql(
        "INSERT INTO ledger.workers (worker, host, process) VALUES ($1, 'far', 7)",
        dead := uuid.UUID(int=7),
    )
    await ledger.sql(
        "INSERT INTO ledger.heartbeats (worker, expires_at) VALUES ($1, now() - interval '9 s')",
        dead,
    )
    await ledger.sql("UPDATE ledger.owners SET worker = $1 WHERE shard < 2", dead)
    found = await examine(ledger)
    [lost] = [finding for finding in found if finding.rule == "owners_are_dead"]
    assert "process 7 on far" in lost.finding
    async with ledger.working(ledger.worker(settings=WorkerSettings(lease_seconds=2.0))):
        assert "owners_are_dead" not in pressing(await examine(ledger))


async def test_what_verify_found_is_remembered(ledger: Ledger) -> None:
    passed = CheckResult("sums", "", {}, 0, [], passed=True, seconds=0.1)
    failed = CheckResult("limits", "", {}, 1, [], passed=False, seconds=0.1)
    await record_verification(ledger.dsn, Report([passed], passed=True))
    assert "verify_failed" not in pressing(await examine(ledger))
    await record_verification(ledger.dsn, Report([passed, failed], passed=False))
    [first, *_] = await examine(ledger)
    assert first.rule == "verify_failed"
    assert "limits" in first.finding
