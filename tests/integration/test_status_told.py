"""What status says is true, and servers or directories that are away are told in a line."""

import asyncio
import json
import re
import subprocess
import sys
from pathlib import Path

import asyncpg
import pytest

from engine.operating.health import Status, gather_status
from engine.servers import Addresses
from engine.settings import PREFIX_VARIABLE
from engine.store.reports import open_reports
from tests.bounds import CONDITION_SECONDS_MAX
from tests.desks import Desk, desk_over
from tests.ledgers import Ledger, until
from tests.moving import id_of, run_shards
from tests.processes import WorkerProcess
from tests.told import DEAD_URL, SHORT_LEASE, problems, run, start, worker_without_redis


@pytest.fixture
def look(monkeypatch: pytest.MonkeyPatch):
    async def look_at(ledger: Ledger, redis_url: str | None = None) -> Status:
        monkeypatch.setenv(PREFIX_VARIABLE, ledger.prefix)
        return await gather_status(Addresses(ledger.app_dsn, redis_url or ledger.redis_url), 30.0)

    return look_at


async def test_a_worker_that_waits_for_redis_is_not_called_dead(
    ledger: Ledger, redis_url: str, look
) -> None:
    async with worker_without_redis(ledger, redis_url) as (worker, through):

        async def waits() -> Status | None:
            status = await look(ledger, through)
            return status if any(w.waits_for for w in status.workers) else None

        status = await until(waits, "the worker to say what it waits for")
    [reported] = status.workers
    assert (reported.worker, reported.state) == (id_of(worker), "waiting")
    assert {shard.state for shard in status.shards} == {"waiting"}
    told = problems(status)
    assert "lives and has waited for" in told
    assert "Redis" in reported.waits_for
    assert "127.0.0.1" in reported.waits_for, "it says where"
    assert "dead" not in told
    assert "start another" not in told


async def test_what_is_unknown_is_unknown(ledger: Ledger, look) -> None:
    status = await look(ledger, DEAD_URL)
    assert status.waiting is None
    assert {shard.waiting for shard in status.shards} == {None}
    shown = await run(ledger, "status", ENGINE_REDIS_URL=DEAD_URL)
    assert "Waiting   unknown" in shown.out
    assert "127.0.0.1" in shown.out
    document = json.loads((await run(ledger, "status", "--json", ENGINE_REDIS_URL=DEAD_URL)).out)
    assert document["waiting"] is None


async def test_a_database_without_a_ledger_is_told_to_run_engine_init(
    ledger: Ledger, postgres_dsn: str
) -> None:
    bare = f"{ledger.prefix}_bare"
    connection = await asyncpg.connect(postgres_dsn)
    await connection.execute(f"CREATE DATABASE {bare}")
    await connection.close()
    empty = Ledger(postgres_dsn.rsplit("/", 1)[0] + f"/{bare}", ledger.redis_url, bare, 16)
    for words in (["status"], ["balance", "x"], ["worker"], ["shards", "plan"]):
        ended = await run(empty, *words)
        assert ended.code == 1
        assert "run `engine init`" in ended.out + ended.err, words
        assert "start Postgres" not in ended.out
    assert (await run(empty, "init")).code == 0


@pytest.mark.parametrize("pinned", [None, list(range(16))])
async def test_a_dead_worker_is_replaced_by_one_of_its_kind(
    ledger: Ledger, look, pinned: list[int] | None
) -> None:
    process = WorkerProcess(ledger, pinned, SHORT_LEASE)
    await process.start()
    await process.ready()
    await process.kill()

    async def dead() -> Status | None:
        status = await look(ledger)
        return status if status.shards[0].state == "dead" else None

    told = problems(await until(dead, "its lease to end"))
    assert told.endswith("engine worker" if pinned is None else "engine worker --shards 0-15")


async def test_a_drained_worker_is_shown_as_drained(ledger: Ledger) -> None:
    one, other = ledger.worker(), ledger.worker()
    async with ledger.working(one, other):
        assert (await run_shards(ledger, "drain", id_of(one))).code == 0
        assert "none, drained" in (await run(ledger, "status")).out


async def test_entries_in_streams_that_nobody_reads_are_shown(ledger: Ledger, look) -> None:
    prefix = f"{ledger.prefix}:transfers"
    strays = {
        f"{prefix}:{{0099}}": 1,
        f"{prefix}:0007": 2,
        f"{prefix}:7": 1,
        prefix: 1,
        f"{prefix}:{{0007}}x": 1,
    }
    async with ledger.redis() as redis:
        for name, count in strays.items():
            for _ in range(count):
                await redis.xadd(name, {"json": "[]"})
        await redis.set(f"{prefix}:note", "no stream")
    async with ledger.working():
        status = await look(ledger)
    assert status.strays == strays
    assert not status.healthy
    assert "with braces and four digits" in problems(status)
    async with ledger.redis() as redis:
        await redis.delete(*strays)
    async with ledger.working():
        assert (await look(ledger)).healthy


async def test_out_of_reach_says_which_host_and_port(ledger: Ledger) -> None:
    nowhere = "postgresql://engine@127.0.0.1:1/engine"
    for words, environment in (
        (["balance", "x"], {"ENGINE_POSTGRES_DSN": nowhere}),
        (["init"], {"ENGINE_POSTGRES_DSN": nowhere}),
        (["shards", "plan"], {"ENGINE_POSTGRES_DSN": nowhere}),
        (["verify"], {"ENGINE_REDIS_URL": DEAD_URL}),
        (["verify"], {"ENGINE_POSTGRES_DSN": nowhere}),
    ):
        ended = await run(ledger, *words, **environment)
        assert ended.code == 1
        assert "out of reach" in ended.err
        assert re.search(r"127\.0\.0\.1\D{1,4}1\b", ended.err), ended.err
        assert ended.err.count("\n") == 1


async def test_a_role_without_rights_is_an_error_of_one_line(ledger: Ledger) -> None:
    await ledger.sql(f"CREATE ROLE {ledger.prefix} LOGIN PASSWORD 'x'")
    _, _, at = ledger.dsn.rpartition("@")
    poor = f"postgresql://{ledger.prefix}:x@{at}"
    for words in (["balance", "x"], ["status"], ["verify"], ["init"], ["shards", "status"]):
        ended = await run(ledger, *words, ENGINE_POSTGRES_DSN=poor)
        assert ended.code == 1, words
        assert "not foreseen" not in ended.err, (words, ended.err)


@pytest.mark.parametrize("address", ["nonsense", "postgresql://", "redis://h:99999", "http://x"])
async def test_a_malformed_address_is_an_error_of_one_line(ledger: Ledger, address: str) -> None:
    variable = "ENGINE_POSTGRES_DSN" if "redis" not in address else "ENGINE_REDIS_URL"
    ended = await run(ledger, "verify", **{variable: address})
    assert ended.code == 1
    assert "not foreseen" not in ended.err, ended.err


async def test_a_directory_that_cannot_serve_is_an_error_of_one_line(
    ledger: Ledger, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    (other / "postgres" / "data").mkdir(parents=True)
    (other / "postgres" / "data" / "PG_VERSION").write_text("9\n")
    garbled = tmp_path / "garbled"
    garbled.mkdir()
    (garbled / "servers.json").write_text("{")
    cases = [
        ["up", "--data", str(other)],
        ["status", "--data", str(garbled)],
        ["up", "--data", "/proc/nowhere"],
        ["up", "--data", "x" * 5000],
    ]
    for words in cases:
        ended = await run(ledger, *words)
        assert ended.code == 1, words
        assert "not foreseen" not in ended.err, (words, ended.err)


async def test_reports_tell_whom_they_cannot_reach() -> None:
    from engine.errors import TryAgainError  # noqa: PLC0415

    with pytest.raises(TryAgainError, match=r"127\.0\.0\.1"):
        async with open_reports("postgresql://engine@127.0.0.1:1/engine"):
            pass


async def test_status_counts_the_dead_letters_that_nobody_dealt_with(ledger: Ledger, look) -> None:
    async with desk_over(ledger) as desk, ledger.working():
        await desk.redis.xadd(desk.stream(), {"json": "{"})
        await desk.drained()
        assert (await look(ledger)).postgres.dead_letters == 1
        assert "1 dead letters that nobody dealt with" in (await run(ledger, "status")).out
        [row] = await ledger.sql("SELECT letter FROM ledger.letters")
        await run(ledger, "letters", "dismiss", row["letter"], "--reason", "a test")
        assert (await look(ledger)).postgres.dead_letters == 0
        assert "dead letters" not in (await run(ledger, "status")).out


async def test_shards_at_rest_are_a_line_with_their_latency(ledger: Ledger, look) -> None:
    async with desk_over(ledger) as desk, ledger.working(ledger.worker(settings=SHORT_LEASE)):
        sending = asyncio.create_task(_keep_asking(desk))

        async def has_latency() -> bool:
            return any(shard.answer_seconds for shard in (await look(ledger)).shards)

        await until(has_latency, "the latency of a shard")

        async def is_a_line() -> bool:
            told = (await run(ledger, "status")).out
            line = "16 have a worker and wait for nothing, the slowest answer lately in"
            return line in told and "position" not in told

        await until(is_a_line, "all shards to be a line")
        sending.cancel()
        every = (await run(ledger, "status", "--all")).out
        assert len(re.findall(r" alive ", every)) == 17, every


async def _keep_asking(desk: Desk) -> None:
    while True:
        await desk.ask()


async def test_status_is_shown_again_and_again(ledger: Ledger) -> None:
    async with ledger.working():
        process = await start(ledger, "status", "--watch", "--json")
        for _ in range(2):
            line = await asyncio.wait_for(process.stdout.readline(), CONDITION_SECONDS_MAX)
            assert json.loads(line)["healthy"]
        process.kill()
        await process.wait()


def test_status_does_not_load_what_it_does_not_need() -> None:
    """Half of what it took went to libraries that it has no use for."""
    code = "import sys, engine.commands.status; print(*sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"redis", "structlog", "numpy", "uvloop"} & set(found.stdout.split())
