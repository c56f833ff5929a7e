"""How long others wait while one bad thing is under way in a shard of the same worker.

Somebody honest sends one transfer after the other to another shard of that worker, and waits for
each answer. Beside it, at the same time, who asks Redis for a bare PING: where that waits as long,
it is Redis that is busy and not the worker. Each thing has fresh servers, whose Redis keeps an AOF.
Not measured: the shard that it is about.

Example: python -m benchmarks.one_bad_thing --only GiB
"""

import argparse
import asyncio
import json
import multiprocessing
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import numpy as np
import redis

from benchmarks.bad_things import BAD_THINGS, PREFIX, BadThing, World, account_of
from benchmarks.report import Result, Row, Size, note, run
from benchmarks.serving import Ledger, new_ledger, resident_mb, running_engine
from benchmarks.slow_link import slow_link
from benchmarks.workload import SHARDS, make_accounts
from engine.ledger.nouns import stream_name
from engine.verify.run import verify

SIZES = {"calm": Size(1, 1, "seconds before and after it")}
PAUSE_SECONDS = 0.01
ANSWER_SECONDS_MAX = 600

_spawning = multiprocessing.get_context("spawn")


class Heard(NamedTuple):
    """What others saw."""

    answers: list[float]
    """Seconds, of each."""
    pings: list[float]


def measure_thing(thing: BadThing, calm_seconds: float) -> tuple[Row, list[str]]:
    """Do one bad thing; returns its row, and what does not add up."""
    accounts = {shard: (account_of(shard, 1), account_of(shard, 2)) for shard in range(SHARDS)}
    with tempfile.TemporaryFile("w+") as log, new_ledger(make_accounts(0)) as ledger:
        return _measure(thing, ledger, accounts, calm_seconds, log)


def _measure(
    thing: BadThing,
    ledger: Ledger,
    accounts: dict[int, tuple[str, str]],
    calm_seconds: float,
    log: Any,
) -> tuple[Row, list[str]]:
    asyncio.run(_prepare(thing, ledger, accounts))
    with (
        slow_link(ledger.url, thing.bytes_per_second) as url,
        running_engine(ledger, thing.workers, redis_url=url, log=log) as engine,
    ):
        honest_shard = asyncio.run(_beside(ledger))
        with _listening(ledger.url, accounts[honest_shard], honest_shard) as heard:
            time.sleep(calm_seconds)
            began = time.monotonic()
            asyncio.run(_do(thing, ledger, accounts))
            seconds = time.monotonic() - began
            time.sleep(calm_seconds)
        memory = resident_mb(engine.pid)
    report = asyncio.run(verify(ledger.dsn, None))
    faults = [
        f"{thing.name}: verify finds {c.name}: {c.offenders}" for c in report.checks if not c.passed
    ]
    log.seek(0)
    faults += [f"{thing.name}: {line.strip()}" for line in log if "session_ended" in line]
    row = {
        "bad_thing": thing.name,
        "seconds": round(seconds, 1),
        "answers": len(heard.answers),
        "median_s": round(float(np.median(heard.answers)), 4),
        "p99_s": round(float(np.quantile(heard.answers, 0.99)), 3),
        "most_s": round(max(heard.answers), 3),
        "ping_median_s": round(float(np.median(heard.pings)), 4),
        "ping_most_s": round(max(heard.pings), 3),
        "memory_mb_max": memory["VmHWM"],
    }
    return row, faults


async def _prepare(thing: BadThing, ledger: Ledger, accounts: dict[int, tuple[str, str]]) -> None:
    world = World(ledger.dsn, ledger.url, accounts)
    ids = [uuid.UUID(each) for pair in accounts.values() for each in pair]
    await world.sql(
        "INSERT INTO ledger.accounts (id, ledger, code) SELECT unnest($1::uuid[]), 1, 1", ids
    )
    if thing.prepare is not None:
        await thing.prepare(world)
    await world.redis.aclose()


async def _beside(ledger: Ledger) -> int:
    """Another shard of the worker that has shard 0."""
    world = World(ledger.dsn, ledger.url, {})
    rows = await world.sql(
        "SELECT shard FROM ledger.shards WHERE shard <> 0 AND worker ="
        " (SELECT worker FROM ledger.shards WHERE shard = 0) ORDER BY shard LIMIT 1"
    )
    await world.redis.aclose()
    shard: int = rows[0]["shard"]
    return shard


async def _do(thing: BadThing, ledger: Ledger, accounts: dict[int, tuple[str, str]]) -> None:
    world = World(ledger.dsn, ledger.url, accounts)
    await thing.do(world)
    await world.add()
    await world.until(world.is_over, f"the end of: {thing.name}")
    await world.redis.aclose()


@contextmanager
def _listening(url: str, accounts: tuple[str, str], shard: int) -> Iterator[Heard]:
    """Others, in processes of their own, until the block ends."""
    heard = Heard([], [])
    listeners = []
    for target, times in ((_be_honest, heard.answers), (_ping, heard.pings)):
        ours, theirs = _spawning.Pipe()
        process = _spawning.Process(target=target, args=(theirs, url, accounts, shard), daemon=True)
        process.start()
        assert ours.recv() == "ready"
        listeners.append((ours, process, times))
    try:
        yield heard
        for ours, _, times in listeners:
            ours.send("stop")
            times.extend(ours.recv())
    finally:
        for _, process, _ in listeners:
            process.kill()
            process.join()


def _be_honest(words: Connection, url: str, accounts: tuple[str, str], shard: int) -> None:
    debit, credit = accounts
    connection: Any = redis.Redis.from_url(url, socket_timeout=None)
    reply = f"{PREFIX}:answers:honest"

    def ask(after: str) -> str:
        row = {
            "id": str(uuid.uuid4()),
            "debit_account_id": debit,
            "credit_account_id": credit,
            "amount": 1,
            "ledger": 1,
            "code": 1,
        }
        fields = {"json": json.dumps(row), "reply": reply}
        connection.xadd(stream_name(PREFIX, shard), fields)
        found = connection.xread({reply: after}, count=1, block=ANSWER_SECONDS_MAX * 1000)
        [[answer_id, answer]] = found[0][1]
        if json.loads(answer[b"outcomes"]) != ["created"]:
            raise SystemExit(f"an honest transfer was answered {answer!r}")
        return str(answer_id.decode())

    last = ask("0")
    words.send("ready")
    times = []
    while not words.poll(PAUSE_SECONDS):
        began = time.perf_counter()
        last = ask(last)
        times.append(time.perf_counter() - began)
    words.send(times)


def _ping(words: Connection, url: str, *_: Any) -> None:
    connection: Any = redis.Redis.from_url(url, socket_timeout=None)
    connection.ping()
    words.send("ready")
    times = []
    while not words.poll(PAUSE_SECONDS):
        began = time.perf_counter()
        connection.ping()
        times.append(time.perf_counter() - began)
    words.send(times)


def measure(options: argparse.Namespace) -> Result:
    rows: list[Row] = []
    faults: list[str] = []
    for thing in BAD_THINGS:
        if options.only and not any(word in thing.name for word in options.only):
            continue
        row, found = measure_thing(thing, options.calm)
        note(", ".join(f"{name} {value}" for name, value in row.items()))
        rows.append(row)
        faults += found
    return Result(rows, faults)


def _more(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--only", nargs="*", default=[], help="those with a word in their names")


def main(arguments: list[str] | None = None) -> None:
    run(__doc__, measure, SIZES, _more, arguments)


if __name__ == "__main__":
    main()
