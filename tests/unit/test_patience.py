"""Time in which the event loop was busy is no silence of others, whichever event loop it is."""

import asyncio
import socket
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvloop

from engine.patience import TICK_SECONDS, Patience, within

BUSY_SECONDS = 1.0
LIMIT_SECONDS = 0.35
TURNS_MAX = 100

BY_EACH_LOOP = pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])

Run = Callable[[Coroutine[Any, Any, Any]], Any]


def be_busy(seconds: float = BUSY_SECONDS) -> None:
    time.sleep(seconds)


@BY_EACH_LOOP
def test_what_came_while_the_loop_was_busy_came_in_time(run: Run) -> None:
    async def read() -> bytes:
        ours, theirs = socket.socketpair()
        reader, writer = await asyncio.open_connection(sock=ours)
        try:
            async with within(LIMIT_SECONDS):
                asyncio.get_running_loop().call_soon(be_busy)
                theirs.send(b"x")
                return await reader.read(1)
        finally:
            writer.close()
            theirs.close()

    assert run(read()) == b"x"


@BY_EACH_LOOP
def test_an_answer_in_several_pieces_came_in_time_too(run: Run) -> None:
    async def read() -> bytes:
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        reader, writer = await asyncio.open_connection(sock=ours)
        answer = bytes(8 * 1024 * 1024)
        sending = asyncio.create_task(asyncio.get_running_loop().sock_sendall(theirs, answer))
        try:
            async with within(LIMIT_SECONDS):
                asyncio.get_running_loop().call_soon(be_busy)
                return await reader.readexactly(len(answer))
        finally:
            sending.cancel()
            writer.close()
            theirs.close()

    assert len(run(read())) == 8 * 1024 * 1024


@BY_EACH_LOOP
@pytest.mark.parametrize("busy_seconds", [0.0, 0.4], ids=["free", "busy in each turn"])
def test_what_never_comes_is_given_up(run: Run, busy_seconds: float) -> None:
    async def wait() -> None:
        loop = asyncio.get_running_loop()
        never = loop.create_future()
        turns = 0

        def turn() -> None:
            nonlocal turns
            turns += 1
            be_busy(busy_seconds)
            if turns == TURNS_MAX and not never.done():
                never.set_exception(AssertionError("it is not given up"))
            loop.call_later(0.01, turn)

        turn()
        with pytest.raises(TimeoutError):
            async with within(LIMIT_SECONDS):
                await never

    run(wait())


@BY_EACH_LOOP
def test_the_clock_never_goes_back_and_leaves_out_what_was_busy(run: Run) -> None:
    async def count() -> list[float]:
        with Patience() as patience:
            times = [patience.time()]
            for _ in range(3):
                be_busy()
                times.append(patience.time())
                await asyncio.sleep(TICK_SECONDS / 2)
                times.append(patience.time())
        times.append(patience.time())
        await asyncio.sleep(2 * TICK_SECONDS)
        assert patience.time() == times[-1], "it counts no more"
        return times

    times = run(count())
    assert times == sorted(times)
    assert times[-1] < 2 * BUSY_SECONDS
