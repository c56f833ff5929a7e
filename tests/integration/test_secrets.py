"""Passwords stand in no log, process list, error or trace."""

import json
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.test_commands import Up
from tests.ledgers import Ledger, as_user
from tests.told import run

PASSWORD = "n0t-t0-be-sh0wn"


def process_lists() -> str:
    """The words that every process of this machine was started with."""
    lists = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            lists.append(file.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:
            continue
    return "\n".join(lists)


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Up]:
    running = Up(tmp_path)
    yield running
    running.process.send_signal(signal.SIGKILL)
    running.process.communicate()


def test_no_log_and_no_process_list_shows_a_password_of_up(up: Up, tmp_path: Path) -> None:
    data = tmp_path / "data"
    files = ("postgres/password", "postgres/engine-password", "valkey/password")
    secrets = [(data / file).read_text().strip() for file in files]
    assert len(set(secrets)) == 3
    for file in (*files, "servers.json"):
        assert (data / file).stat().st_mode & 0o077 == 0, file
    owner, engine, valkey = secrets
    assert f":{engine}@" in up.ready["postgres_dsn"]
    assert f":{owner}@" in up.ready["owner_dsn"]
    assert f":{valkey}@" in up.ready["redis_url"]
    (tmp_path / "accounts.jsonl").write_text('{"id": 5}\n')
    ended = up.run_all(
        "init", "roles", "roles --apply", "status", "doctor", "verify", "events",
        "accounts create accounts.jsonl", "balance nobody", "worker --help", "where 5",
    )  # fmt: skip
    seen = [process_lists(), *(each.out + each.err for each in ended)]
    up.process.terminate()
    _, logged = up.process.communicate()
    logs = [file.read_text(errors="replace") for file in data.rglob("*.log*")]
    assert logs
    for secret in secrets:
        for text in (*seen, logged, *logs):
            assert secret not in text


def test_up_prints_a_role_for_the_engine_and_one_for_the_owner(up: Up) -> None:
    """Whoever has the one may not what the other may; commands find the one that they need."""
    applied = up.run("init", "--json").document()
    assert applied["applied"] == []
    shown = up.run("roles", "--json").document()
    assert shown["owner"] == "engine"
    assert {shown[kind] for kind in ("engine", "creator", "reader")} == {
        "engine_engine", "engine_creator", "engine_reader"
    }  # fmt: skip
    assert "engine_app" in up.ready["postgres_dsn"]
    wrong = up.run("init", "--postgres-dsn", up.ready["postgres_dsn"])
    assert wrong.code == 1
    assert "ENGINE_OWNER_DSN" in wrong.err
    assert "engine_app" in wrong.err


async def test_no_error_and_no_trace_shows_a_password(ledger: Ledger) -> None:
    place = ledger.dsn.rpartition("@")[2]
    host = place.rpartition("/")[0]
    name = ledger.prefix
    wrong = [
        as_user(ledger.dsn, name, PASSWORD),
        f"postgresql://{place}?user={name}&password={PASSWORD}",
        f"postgresql://{name}:{PASSWORD}@127.0.0.1:1/{name}",
        f"postgresql://{name}:{PASSWORD}@{host}/{name}?sslmode=perhaps",
        f"postgresql://{name}:{PASSWORD}@@{host}/{name}",
        f"postgresql://{name}:{PASSWORD}/x@{host}/{name}",
        f"postgresql://{name}:{PASSWORD}@{host}/{name}?sslpassword={PASSWORD}&sslmode=require",
        f"host=127.0.0.1 port=1 user={name} password={PASSWORD} dbname={name}",
        f"host=127.0.0.1 port=1 password='{PASSWORD}",
        f"mysql://{name}:{PASSWORD}@{host}/{name}",
    ]
    for dsn in wrong:
        for words in (["status"], ["doctor"], ["init"], ["worker"], ["verify", "--no-streams"]):
            ended = (
                await run(ledger, *words, ENGINE_POSTGRES_DSN=dsn, ENGINE_LOG_LEVEL="debug")
                if words != ["worker"] or "perhaps" in dsn
                else None
            )
            if ended is not None:
                assert PASSWORD not in ended.out + ended.err, (dsn, words)
                assert ended.code != 0 or words == ["doctor"]


async def test_no_error_of_redis_shows_a_password(ledger: Ledger) -> None:
    host = ledger.redis_url.rpartition("@")[2]
    for url in (
        f"redis://:{PASSWORD}@{host}",
        f"redis://127.0.0.1:1/0?password={PASSWORD}",
        f"rediss://{host}?ssl_password={PASSWORD}&ssl_certfile=/nowhere",
        f"redis+cluster://:{PASSWORD}@127.0.0.1:1",
        f"redis://:{PASSWORD}@@{host}",
        f"redis://:{PASSWORD}@{host}?strange={PASSWORD}",
        f"redis://a:{PASSWORD}/b@{host}",
    ):
        for words in (["status"], ["doctor"], ["verify"]):
            ended = await run(ledger, *words, ENGINE_REDIS_URL=url, ENGINE_LOG_LEVEL="debug")
            assert PASSWORD not in ended.out + ended.err, (url, words)


async def test_roles_take_passwords_from_files_alone(ledger: Ledger, tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text(PASSWORD + "\nnever read\n")
    login = f"{ledger.prefix}_made"
    make = ["roles", "--apply", "--login", login, "--may", "reader", "--password-file", str(file)]
    made = await run(ledger, *make, ENGINE_OWNER_DSN=ledger.dsn)
    assert made.code == 0, made.err
    assert PASSWORD not in made.out + made.err
    there = Ledger(as_user(ledger.dsn, login, PASSWORD), "", "", 16)
    assert len(await there.sql("TABLE ledger.shards")) == 16
    user = f"{ledger.prefix}-made"
    words = [
        "roles",
        "--redis-user",
        user,
        "--may",
        "producer",
        "--password-file",
        str(file),
        "--json",
    ]
    made = await run(ledger, *words)
    assert json.loads(made.out) == {"applied": True, "user": user, "may": "producer", "kept": False}
    async with Ledger("", as_user(ledger.redis_url, user, PASSWORD), "", 16).redis() as redis:
        assert await redis.ping()
    for wrong, says in (
        (["--login", "a", "--may", "reader", "--password-file", str(file)], "--apply"),
        (["--apply", "--login", "a", "--may", "reader"], "--password-file"),
        (
            ["--apply", "--login", "a", "--may", "producer", "--password-file", str(file)],
            "producer",
        ),
        (["--redis-user", "a", "--may", "reader"], "producer"),
        (["--may", "reader"], "--login"),
        (
            ["--apply", "--login", "a", "--may", "reader", "--password-file", "/nowhere"],
            "cannot be read",
        ),
    ):
        ended = await run(ledger, "roles", *wrong, ENGINE_OWNER_DSN=ledger.dsn)
        assert ended.code in {1, 2}
        assert says in re.sub(r"\s+", " ", ended.err), ended.err
