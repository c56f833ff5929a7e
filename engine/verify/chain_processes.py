"""What flushes wrote, checked by several processes, all of one snapshot."""

import asyncio
import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any, Final

from engine.store.snapshot import snapshot
from engine.verify.contents import Found, check_contents
from engine.verify.run import SETTINGS

LOOK_SECONDS: Final = 0.2
"""How often it is looked how far they got."""

_done: Any = None
"""In a process of the pool: how many flushes all of them have done."""


async def check_ranges(
    dsn: str, exported: str, ranges: Sequence[tuple[int, int]], note: Callable[[int], None]
) -> list[Found]:
    """Check ranges of flushes at the same time, a process each.

    Args:
        dsn: The Postgres server and database.
        exported: The name of a snapshot, whose transaction is open.
        ranges: First and last numbers of flushes.
        note: Called with how many more are done.
    """
    # Not forked: this process has an event loop, and others may have threads.
    context = multiprocessing.get_context("spawn")
    done = context.Value("q", 0)
    loop = asyncio.get_running_loop()
    noted = 0
    with ProcessPoolExecutor(len(ranges), context, _begin, (done,)) as pool:
        tasks = [loop.run_in_executor(pool, _check_range, dsn, exported, *each) for each in ranges]
        try:
            waiting: set[Any] = set(tasks)
            while waiting:
                finished, waiting = await asyncio.wait(
                    waiting, timeout=LOOK_SECONDS, return_when=asyncio.FIRST_EXCEPTION
                )
                for task in finished:
                    task.result()
                note(done.value - noted)
                noted = done.value
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
    return [task.result() for task in tasks]


def _begin(done: Any) -> None:
    global _done  # noqa: PLW0603 - the process has nothing else to keep it in
    _done = done


def _check_range(dsn: str, exported: str, first: int, last: int) -> Found:
    return asyncio.run(_check_range_of(dsn, exported, first, last))


async def _check_range_of(dsn: str, exported: str, first: int, last: int) -> Found:
    def note(count: int) -> None:
        with _done.get_lock():
            _done.value += count

    async with snapshot(dsn, SETTINGS, exported) as connection:
        return await check_contents(connection, first, last, note)
