"""Programs run over a ledger of a test's own, and what they tell."""

import asyncio
import contextlib
import re
import shlex
import subprocess
from collections.abc import AsyncIterator

from engine.operating.health import Status
from engine.settings import WorkerSettings
from engine.worker.worker import Worker
from tests.bounds import PROCESS_SECONDS_MAX
from tests.integration.test_commands import (
    ALICE,
    BAKERY,
    BANK,
    ENGINE,
    ENVIRONMENT,
    SHARDS,
)
from tests.ledgers import Ledger, ready
from tests.moving import Ended
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
    process = await _start(ledger, command, environment)
    out, err = await asyncio.wait_for(process.communicate(given.encode()), PROCESS_SECONDS_MAX)
    assert process.returncode is not None
    ended = Ended(process.returncode, out, err)
    assert "Traceback" not in ended.err, ended.err
    return ended


async def start(ledger: Ledger, *words: str, **environment: str) -> asyncio.subprocess.Process:
    """The program `engine` over a ledger, under way."""
    return await _start(ledger, [*ENGINE, *words], environment)


async def _start(
    ledger: Ledger, command: list[str], environment: dict[str, str]
) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *command,
        env={
            **ENVIRONMENT,
            "ENGINE_POSTGRES_DSN": ledger.app_dsn,
            "ENGINE_REDIS_URL": ledger.redis_url,
            "ENGINE_PREFIX": ledger.prefix,
            **environment,
        },
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


async def people(ledger: Ledger) -> Ledger:
    """A ledger with three accounts, and no worker."""
    await ledger.sql(
        "INSERT INTO ledger.accounts (id, ledger, code, name)"
        " SELECT id::uuid, 978, 1, name FROM unnest($1::text[], $2::text[]) AS a (id, name)",
        [BANK, ALICE, BAKERY],
        ["bank", "al\x1b[31mice\nX", "bakery"],
    )
    return ledger


@contextlib.asynccontextmanager
async def worker_without_redis(ledger: Ledger, redis_url: str) -> AsyncIterator[tuple[Worker, str]]:
    """A worker at work whose Redis has gone, and the address where it was."""
    async with proxied(redis_url) as (_, through):
        behind = Ledger(ledger.app_dsn, through, ledger.prefix, ledger.shard_count)
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
