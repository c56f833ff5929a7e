"""What each stage of the worker costs, measured in the worker. `python -m benchmarks.stages`
runs the program `engine` with clocks around its stages; without it there are none.

Of each stage: the CPU time of its own, stages inside it left out, and how long it was under
way, waiting included. What belongs to no stage is the event loop and the drivers: sockets
above all, so the bytes of a flush on their way to Postgres are there.
"""

import contextlib
import functools
import json
import os
import signal
import sys
import time
import types
from collections.abc import Callable, Coroutine, Generator
from importlib import import_module
from typing import Any

BEGIN_SIGNAL = signal.SIGUSR1
"""Count from zero."""

STAGES = {
    "read": ["engine.streams.streams:Streams.read"],
    "decode": ["engine.worker.inbox:understand"],
    "decide": [
        "engine.deciding.decider:Decider.__init__",
        "engine.deciding.decider:Decider.advance",
        "engine.deciding.decider:Decider.supply",
        "engine.deciding.decider:Decider.finish_batch",
        "engine.deciding.few:decide_few",
    ],
    "book": ["engine.book.book:Book.note_decision"],
    "look up": [
        "engine.store.worker_store:WorkerStore.load_accounts",
        "engine.store.worker_store:WorkerStore.load_records",
        "engine.store.worker_store:WorkerStore.load_others",
        "engine.book.book:Book.add_accounts",
    ],
    "encode": [
        "engine.book.postings:post_decisions",
        "engine.store.flush_copies:copies_of",
        "engine.store.small_flush:small_arguments",
    ],
    "digest": [
        "engine.book.content:content_of",
        "engine.book.content:digest_of",
        "engine.book.content:first_used",
    ],
    "flush": ["engine.store.worker_store:WorkerStore.flush"],
    "report": ["engine.worker.pipeline:Pipeline._finish_flush"],
    "answer": [
        "engine.wire.answers:encode_answer",
        "engine.streams.streams:Streams.answer",
        "engine.streams.streams:Streams.remove",
    ],
}
"""By stage, the functions that are it."""


class Clocks:
    """CPU and elapsed seconds by stage."""

    def __init__(self) -> None:
        self._stack: list[str] = []
        self.begin()

    def begin(self) -> None:
        """Count from zero."""
        self.cpu = dict.fromkeys(STAGES, 0.0)
        self.wall = dict.fromkeys(STAGES, 0.0)
        self.calls = dict.fromkeys(STAGES, 0)
        self._since = time.thread_time()
        self._process_since = time.process_time()

    def _charge(self) -> None:
        now = time.thread_time()
        if self._stack:
            self.cpu[self._stack[-1]] += now - self._since
        self._since = now

    @contextlib.contextmanager
    def running(self, stage: str) -> Generator[None, None, None]:
        """Charge this thread's time to a stage; what it runs inside is charged to that."""
        self._charge()
        self._stack.append(stage)
        try:
            yield
        finally:
            self._charge()
            self._stack.pop()

    def report(self) -> dict[str, Any]:
        """All of it, with what no stage was charged for."""
        cpu = time.process_time() - self._process_since
        stages = {
            stage: {
                "cpu_seconds": self.cpu[stage],
                "wall_seconds": self.wall[stage],
                "calls": self.calls[stage],
            }
            for stage in STAGES
        }
        rest = cpu - sum(self.cpu.values())
        return {**stages, "everything else": {"cpu_seconds": rest}, "all": {"cpu_seconds": cpu}}


def clocked(clocks: Clocks, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, with clocks; a coroutine function stays one."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        began = time.perf_counter()
        clocks.calls[stage] += 1
        with clocks.running(stage):
            result = function(*args, **kwargs)
        if isinstance(result, types.CoroutineType):
            return _steps(clocks, stage, result)
        clocks.wall[stage] += time.perf_counter() - began
        return result

    return call


async def _steps(clocks: Clocks, stage: str, coroutine: Coroutine[Any, Any, Any]) -> Any:
    began = time.perf_counter()
    try:
        return await _step_by_step(clocks, stage, coroutine)
    finally:
        clocks.wall[stage] += time.perf_counter() - began


@types.coroutine
def _step_by_step(
    clocks: Clocks, stage: str, coroutine: Coroutine[Any, Any, Any]
) -> Generator[Any, Any, Any]:
    """Run a coroutine, with the clock on while it runs and off while it waits."""
    resume: Callable[[], Any] = functools.partial(coroutine.send, None)
    while True:
        try:
            with clocks.running(stage):
                waits_for = resume()
        except StopIteration as ended:
            return ended.value
        try:
            resume = functools.partial(coroutine.send, (yield waits_for))
        except BaseException as error:  # noqa: BLE001 - it is the coroutine's to handle
            resume = functools.partial(coroutine.throw, error)


def put_on(clocks: Clocks) -> None:
    """Put clocks on every function of every stage, wherever it was imported to."""
    import_module("engine.commands.worker")
    loaded = [module for name, module in sys.modules.items() if name.startswith("engine.")]
    for stage, functions in STAGES.items():
        for name in functions:
            module, _, path = name.partition(":")
            holder: Any = import_module(module)
            *parts, last = path.split(".")
            for part in parts:
                holder = getattr(holder, part)
            plain = getattr(holder, last)
            with_clocks = clocked(clocks, stage, plain)
            for one in (holder, *loaded):
                if vars(one).get(last) is plain:
                    setattr(one, last, with_clocks)


def table(stages: dict[str, Any], transfers: int) -> list[dict[str, Any]]:
    """Microseconds a transfer, a row a stage."""
    return [
        {
            "stage": stage,
            "cpu_us": round(cost["cpu_seconds"] / transfers * 1e6, 3),
            "wall_us": round(cost["wall_seconds"] / transfers * 1e6, 3)
            if "wall_seconds" in cost
            else None,
            "calls": cost.get("calls"),
        }
        for stage, cost in stages.items()
    ]


def main() -> None:
    """Run the program with clocks; print what they show at its end, as one line of JSON."""
    clocks = Clocks()
    put_on(clocks)
    signal.signal(BEGIN_SIGNAL, lambda *_: clocks.begin())
    try:
        import_module("engine.commands.main").run()
    finally:
        os.write(1, json.dumps(clocks.report()).encode() + b"\n")


if __name__ == "__main__":
    main()
