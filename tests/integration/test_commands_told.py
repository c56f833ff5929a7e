"""What people are told when something is wrong: the id, the line, the server, the next command."""

import asyncio
import contextlib
import json
import os
import re
import shlex
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from engine.commands.health import Status, gather_status
from engine.servers import Addresses
from engine.settings import PREFIX_VARIABLE, WorkerSettings
from engine.store.reports import open_reports
from engine.worker.worker import Worker
from tests.bounds import PROCESS_SECONDS_MAX
from tests.integration.test_commands import (
    ALICE,
    BAKERY,
    BANK,
    ENGINE,
    ENVIRONMENT,
    SHARDS,
    json_lines,
    transfer,
)
from tests.ledgers import Ledger, ready, until
from tests.moving import Ended, id_of, run_shards
from tests.processes import WorkerProcess
from tests.proxies import proxied

UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
SHORT_LEASE = WorkerSettings(lease_seconds=0.5)
DEAD_URL = "redis://127.0.0.1:1"


async def run(
    ledger: Ledger, *words: str, given: str = "", shell: str | None = None, **environment: str
) -> Ended:
    """A program over a ledger, to its end; `shell` is the rest of its line, as `> /dev/full`."""
    program = SHARDS if words[0] == "shards" else ENGINE
    command = [*program, *words[1:]] if words[0] == "shards" else [*program, *words]
    if shell is not None:
        command = ["bash", "-c", f"{shlex.join(command)} {shell}"]
    process = await asyncio.create_subprocess_exec(
        *command,
        env={
            **ENVIRONMENT,
            "ENGINE_POSTGRES_DSN": ledger.dsn,
            "ENGINE_REDIS_URL": ledger.redis_url,
            "ENGINE_PREFIX": ledger.prefix,
            **environment,
        },
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(given.encode()), PROCESS_SECONDS_MAX)
    assert process.returncode is not None
    ended = Ended(process.returncode, out, err)
    assert "Traceback" not in ended.err, ended.err
    return ended


@pytest.fixture
async def peopled(ledger: Ledger) -> Ledger:
    """A ledger with three accounts, and no worker."""
    await ledger.sql(
        "INSERT INTO ledger.accounts (id, ledger, code, name)"
        " SELECT id::uuid, 978, 1, name FROM unnest($1::text[], $2::text[]) AS a (id, name)",
        [BANK, ALICE, BAKERY],
        ["bank", "al\x1b[31mice\nX", "bakery"],
    )
    return ledger


@pytest.fixture
def look(monkeypatch: pytest.MonkeyPatch):
    async def look_at(ledger: Ledger, redis_url: str | None = None) -> Status:
        monkeypatch.setenv(PREFIX_VARIABLE, ledger.prefix)
        return await gather_status(Addresses(ledger.dsn, redis_url or ledger.redis_url), 30.0)

    return look_at


@contextlib.asynccontextmanager
async def worker_without_redis(ledger: Ledger, redis_url: str) -> AsyncIterator[tuple[Worker, str]]:
    """A worker at work whose Redis has gone, and the address where it was."""
    async with proxied(redis_url) as (_, through):
        behind = Ledger(ledger.dsn, through, ledger.prefix, ledger.shard_count)
        worker = behind.worker(None, SHORT_LEASE)
        running = asyncio.create_task(worker.run())
        await ready(worker, running)
    async with ledger.redis() as redis:
        await redis.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    try:
        yield worker, through
    finally:
        worker.stop()
        await running


def problems(status: Status) -> str:
    return "\n".join(f"{p.problem} -> {p.action}" for p in status.problems)


class TestUnknownOutcomes:
    async def test_the_id_of_a_transfer_is_shown_before_it_is_sent_and_unknown_is_exit_code_3(
        self, peopled: Ledger, tmp_path: Path
    ) -> None:
        """Without its id a person sends again, and pays twice."""
        (tmp_path / "t.jsonl").write_text(json_lines(transfer(900, BANK, ALICE, 7)))
        pay = ["transfer", "--debit", "bank", "--credit", "bakery", "--amount", "5", "--code", "1"]
        plain, as_json, submitted = await asyncio.gather(
            run(peopled, *pay),
            run(peopled, *pay, "--json"),
            run(peopled, "submit", str(tmp_path / "t.jsonl"), "--json"),
        )
        assert [plain.code, as_json.code, submitted.code] == [3, 3, 3]
        assert plain.err.startswith("Sending transfer ")
        [shown, *later] = UUID.findall(plain.err)
        assert later, "the error names it too"
        assert set(later) == {shown}
        again = plain.err.strip().splitlines()[-1].strip()
        document = json.loads(as_json.out)
        assert document["outcome"] is None
        assert document["id"] in document["again"]
        assert json.loads(submitted.out) == {
            "id": transfer(900, BANK, ALICE, 7)["id"],
            "outcome": None,
        }
        async with peopled.working():
            for command, transfer_id in ((again, shown), (document["again"], document["id"])):
                program, *words = shlex.split(command)
                assert program == "engine"
                told = await run(peopled, *words)
                assert told.code == 0, told.err
                assert transfer_id in told.out
        rows = await peopled.sql("SELECT count(*) FROM ledger.transfers")
        assert rows[0][0] == 3, "each once, though asked again"

    async def test_what_a_transfer_lacks_is_named(self, peopled: Ledger) -> None:
        missing, nothing, coded = await asyncio.gather(
            run(peopled, "transfer", "--debit", "bank", "--amount", "5"),
            run(peopled, "transfer"),
            run(peopled, "transfer", "--help"),
        )
        assert (missing.code, nothing.code) == (2, 2)
        assert "--credit and --code are missing" in missing.err
        assert "--debit and --credit and --amount and --code are missing" in nothing.err
        assert "default: 0" not in coded.out

    async def test_a_password_is_not_in_the_command_that_asks_again(self) -> None:
        from engine.commands.transfer import _without_password  # noqa: PLC0415

        assert _without_password("--redis-url=redis://me:secret@host:1/0") == (
            "--redis-url=redis://me:...@host:1/0"
        )
        assert _without_password("redis://host:1/0") == "redis://host:1/0"


class TestFiles:
    async def test_a_csv_without_a_header_is_an_error_that_says_so(
        self, peopled: Ledger, tmp_path: Path
    ) -> None:
        row = f"{transfer(901, BANK, ALICE, 7)['id']},{BANK},{ALICE},7,978,1\n"
        (tmp_path / "one.csv").write_text(row)
        (tmp_path / "accounts.csv").write_text("019b0000-0000-7000-8000-0000000000bb,978,1\n")
        (tmp_path / "noid.csv").write_text("ledger,code\n978,1\n")
        for words in (
            ["submit", "one.csv"],
            ["accounts", "create", "accounts.csv"],
            ["accounts", "create", "noid.csv"],
        ):
            ended = await run(peopled, *words[:-1], str(tmp_path / words[-1]))
            assert ended.code == 1
            assert "line 1 is no header" in ended.err
            assert "nothing was sent" in ended.err

    async def test_a_key_that_stands_twice_in_an_account_is_refused(self, peopled: Ledger) -> None:
        line = '{"id":"019b0000-0000-7000-8000-0000000000bc","ledger":978,"code":1,"code":2}'
        ended = await run(peopled, "accounts", "create", "-", given=line)
        assert ended.code == 1
        assert "field `code` twice" in ended.err
        assert not await peopled.sql("SELECT FROM ledger.accounts WHERE id = $1", line[7:43])

    async def test_files_that_are_none_end_in_a_line(self, peopled: Ledger, tmp_path: Path) -> None:
        garbage = tmp_path / "garbage"
        garbage.write_bytes(bytes(range(256)) * 20)
        (tmp_path / "garbage.csv").write_bytes(bytes(range(256)) * 20)
        endless = tmp_path / "endless.jsonl"
        endless.write_bytes(b"[" * 1_100_000)
        (tmp_path / "deep.jsonl").write_bytes(b"[" * 100_000)
        cases = [
            (["submit", str(tmp_path)], 2),
            (["submit", ""], 2),
            (["submit", str(garbage)], 1),
            (["submit", str(tmp_path / "garbage.csv")], 1),
            (["submit", str(endless)], 1),
            (["submit", str(tmp_path / "deep.jsonl")], 1),
            (["accounts", "create", str(tmp_path / "deep.jsonl")], 1),
            (["accounts", "create", str(garbage)], 1),
            (["submit", os.devnull], 0),
            (["demo", "--keep", str(garbage)], 2),
            (["up", "--data", str(garbage)], 1),
            (["shards", "apply", str(tmp_path)], 1),
            (["shards", "apply", str(garbage)], 1),
        ]
        ended = await asyncio.gather(*(run(peopled, *words) for words, _ in cases))
        for (words, code), end in zip(cases, ended, strict=True):
            assert end.code == code, (words, end.err)
            assert "not foreseen" not in end.err, (words, end.err)


class TestTerminals:
    async def test_names_with_escapes_and_newlines_are_shown_written_out(
        self, peopled: Ledger
    ) -> None:
        name = "al\x1b[31mice\nX"
        for words in (
            ["accounts", "list"],
            ["accounts", "show", name],
            ["balance", name],
            ["history", name],
        ):
            ended = await run(peopled, *words)
            assert ended.code == 0, ended.err
            assert "\x1b" not in ended.out
            assert "al\\x1b[31mice\\nX" in ended.out
        wrong = await run(peopled, "balance", "\x1b[31mnobody")
        assert "\x1b[31mnobody" not in wrong.err

    async def test_numbers_beyond_measure_are_wrong_usage(self, peopled: Ledger) -> None:
        pay = ["transfer", "--debit", BANK, "--credit", ALICE, "--code", "1", "--ledger", "978"]
        wrong = [
            ["history", "bank", "--limit", "99999999999"],
            ["history", "bank", "--limit", "-1"],
            ["history", "bank", "--before-number", str(2**63)],
            ["history", "bank", "--before", "99999-01-01"],
            ["accounts", "list", "--limit", str(10**30)],
            [*pay, "--amount", "9" * 5000],
            [*pay, "--amount", str(2**128)],
            [*pay, "--amount", "-1"],
            [*pay, "--amount", "5", "--timeout", str(2**32)],
            [*pay[:-1], str(2**32), "--amount", "5"],
            [*pay, "--amount", "5", "--id", "x"],
            ["status", "--waiting-seconds-max", "-1"],
            ["init", "--shards", "9" * 50],
            ["worker", "--workers", "0"],
            ["worker", "--shards", "9" * 5000],
            ["shards", "plan", "--move", f"{'9' * 5000}=x"],
            ["shards", "plan", "--weight", "3=nan"],
            ["shards", "auto", "--every", "nan"],
        ]
        ended = await asyncio.gather(*(run(peopled, *words) for words in wrong))
        for words, end in zip(wrong, ended, strict=True):
            assert end.code == 2, (words, end.out, end.err)

    async def test_output_that_nobody_takes_ends_in_a_line_at_most(self, peopled: Ledger) -> None:
        full = [["accounts", "list"], ["status", "--json"], ["balance", "bank"], ["--help"]]
        for words in full:
            ended = await run(peopled, *words, shell="> /dev/full")
            assert (ended.code, ended.err) == (1, "error: No space left on device\n"), words
        for shell, codes in (("| true", {0}), (">&-", {0, 1}), ("2> /dev/full", {0}), ("<&-", {0})):
            ended = await run(peopled, "accounts", "list", shell=shell)
            assert ended.code in codes, (shell, ended.err)
            assert ended.err == "", shell
        assert "standard input is closed" in (await run(peopled, "submit", "-", shell="<&-")).err

    async def test_a_terminal_of_ascii_and_no_home_are_enough(self, peopled: Ledger) -> None:
        await peopled.sql(
            "UPDATE ledger.accounts SET name = 'caf\u00e9 \u20ac' WHERE id = $1", ALICE
        )
        ascii_only = {"LANG": "C", "LC_ALL": "C", "PYTHONIOENCODING": "ascii", "HOME": ""}
        for words in (["accounts", "list"], ["balance", ALICE], ["status", "--help"], ["verify"]):
            ended = await run(peopled, *words, **ascii_only)
            assert ended.code == 0, ended.err
            assert ended.out.isascii()
        listed = await run(peopled, "accounts", "list", "--json", **ascii_only)
        assert "caf\u00e9 \u20ac" in {json.loads(line)["name"] for line in listed.out.splitlines()}


class TestStatus:
    async def test_a_worker_that_waits_for_redis_is_not_called_dead(
        self, ledger: Ledger, redis_url: str, look
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

    async def test_what_is_unknown_is_unknown(self, ledger: Ledger, look) -> None:
        status = await look(ledger, DEAD_URL)
        assert status.waiting is None
        assert {shard.waiting for shard in status.shards} == {None}
        shown = await run(ledger, "status", ENGINE_REDIS_URL=DEAD_URL)
        assert "Waiting   unknown" in shown.out
        assert "127.0.0.1" in shown.out
        document = json.loads(
            (await run(ledger, "status", "--json", ENGINE_REDIS_URL=DEAD_URL)).out
        )
        assert document["waiting"] is None

    async def test_a_database_without_a_ledger_is_told_to_run_engine_init(
        self, ledger: Ledger, postgres_dsn: str
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
        self, ledger: Ledger, look, pinned: list[int] | None
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

    async def test_a_drained_worker_is_shown_as_drained(self, ledger: Ledger) -> None:
        one, other = ledger.worker(), ledger.worker()
        async with ledger.working(one, other):
            assert (await run_shards(ledger, "drain", id_of(one))).code == 0
            assert "none, drained" in (await run(ledger, "status")).out

    async def test_entries_in_streams_that_nobody_reads_are_shown(
        self, ledger: Ledger, look
    ) -> None:
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


class TestServersAway:
    async def test_out_of_reach_says_which_host_and_port(self, ledger: Ledger) -> None:
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

    async def test_a_role_without_rights_is_an_error_of_one_line(self, ledger: Ledger) -> None:
        await ledger.sql(f"CREATE ROLE {ledger.prefix} LOGIN PASSWORD 'x'")
        _, _, at = ledger.dsn.rpartition("@")
        poor = f"postgresql://{ledger.prefix}:x@{at}"
        for words in (["balance", "x"], ["status"], ["verify"], ["init"], ["shards", "status"]):
            ended = await run(ledger, *words, ENGINE_POSTGRES_DSN=poor)
            assert ended.code == 1, words
            assert "not foreseen" not in ended.err, (words, ended.err)

    @pytest.mark.parametrize(
        "address", ["nonsense", "postgresql://", "redis://h:99999", "http://x"]
    )
    async def test_a_malformed_address_is_an_error_of_one_line(
        self, ledger: Ledger, address: str
    ) -> None:
        variable = "ENGINE_POSTGRES_DSN" if "redis" not in address else "ENGINE_REDIS_URL"
        ended = await run(ledger, "verify", **{variable: address})
        assert ended.code == 1
        assert "not foreseen" not in ended.err, ended.err


class TestDataDirectories:
    async def test_a_directory_that_cannot_serve_is_an_error_of_one_line(
        self, ledger: Ledger, tmp_path: Path
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
            ["up", "--data", "\x7f/" * 2000],
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
