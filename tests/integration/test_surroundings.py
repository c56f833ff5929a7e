"""What a process is started with: a log that takes nothing, descriptors that are closed."""

import asyncio
import contextlib
import fcntl
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator

import pytest

from tests.bounds import PROCESS_SECONDS_MAX
from tests.desks import Desk, desk, transfer
from tests.fuzz.watched import environment

PIPE_BYTES = 4096
MAXIMAL_ID = f"{2**64 - 1}-{2**64 - 1}"
LOGGED_MAX = 60
"""Streams that end, each of which is logged in several lines: far more than a pipe takes."""


@pytest.fixture
async def at(postgres_dsn: str, redis_url: str) -> AsyncIterator[Desk]:
    async with desk(postgres_dsn, redis_url, shard_count=2) as made:
        yield made


@pytest.fixture
def unread() -> Iterator[int]:
    """The end to write to of a pipe that nobody reads."""
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    yield writing
    os.close(reading)
    os.close(writing)


@pytest.fixture
def broken() -> Iterator[int]:
    """The end to write to of a pipe whose reader is gone."""
    reading, writing = os.pipe()
    os.close(reading)
    yield writing
    os.close(writing)


async def start(at: Desk, *redirections: str, log: int | None = None) -> asyncio.subprocess.Process:
    """A worker, with standard input, output and errors as a shell sets them."""
    return await asyncio.create_subprocess_exec(
        *("bash", "-c", f'exec "$@" {" ".join(redirections)}', "-"),
        *(sys.executable, "-m", "engine.commands.main", "worker"),
        env=environment(at.ledger),
        stderr=log if log is not None else asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
    )


async def works_and_stops(at: Desk, worker: asyncio.subprocess.Process, logged: int) -> None:
    """It decides, whatever it has to log meanwhile, and ends as it should."""
    try:
        for number in range(1, logged + 1):
            # Where it has ended already it may not be renamed yet.
            ended = at.redis.pipeline(transaction=False).xadd(at.stream(1), {"x": "y"}, MAXIMAL_ID)
            await ended.execute(raise_on_error=False)
            await at.send([transfer()])
            await at.answers(number)
        assert worker.returncode is None
        worker.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(worker.wait(), PROCESS_SECONDS_MAX) == 0
    finally:
        if worker.returncode is None:
            worker.kill()
            await worker.wait()


async def test_a_log_that_nobody_reads_stops_nobody(at: Desk, unread: int) -> None:
    """As of a collector that stands still: the pipe is full, and whoever writes to it waits."""
    await works_and_stops(at, await start(at, log=unread), LOGGED_MAX)


async def test_a_log_whose_reader_is_gone_stops_nobody(at: Desk, broken: int) -> None:
    await works_and_stops(at, await start(at, log=broken), 2)


@pytest.mark.parametrize("redirection", ["2>/dev/full", ">/dev/full", ">&-", "<&- >&- 2>&-"])
async def test_output_without_a_place_stops_no_worker(at: Desk, redirection: str) -> None:
    """A full disk, and descriptors that are closed: sockets would get their numbers."""
    await works_and_stops(at, await start(at, redirection), 2)


@contextlib.contextmanager
def hearing(number: signal.Signals, how: signal.Handlers) -> Iterator[None]:
    """What is started in the block hears a signal so, however this process does."""
    before = signal.signal(number, how)
    try:
        yield
    finally:
        signal.signal(number, before)


async def test_a_terminal_that_hangs_up_stops_a_worker_in_order(at: Desk) -> None:
    """And one that is to outlive it, as by nohup, goes on."""
    with hearing(signal.SIGHUP, signal.SIG_DFL):
        worker = await start(at)
    try:
        await at.send([transfer()])
        await at.answers(1)
        # As a shell sends it: to who is in the foreground, and again at its own end.
        for _ in range(2):
            worker.send_signal(signal.SIGHUP)
        assert await asyncio.wait_for(worker.wait(), PROCESS_SECONDS_MAX) == 0
    finally:
        if worker.returncode is None:
            worker.kill()
            await worker.wait()
    alive = "SELECT FROM ledger.heartbeats WHERE expires_at > clock_timestamp()"
    assert await at.ledger.sql(alive) == []
    with hearing(signal.SIGHUP, signal.SIG_IGN):
        worker = await start(at)
    await at.send([transfer()])
    await at.answers(2)
    worker.send_signal(signal.SIGHUP)
    await works_and_stops(at, worker, 3)
