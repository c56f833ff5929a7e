"""Shards move between two workers, and both are restarted, under a load that does not wait.

What runs: two producer processes in an open loop (entries are due at random times, so many a
second, and count from when they were due), two engine processes of one worker each that share
the shards, Valkey and Postgres, all on this machine. After a while without any move, a quarter
of the shards goes back and forth, one at a time, as `shards apply` does it; then one engine
after the other is stopped and started anew.

What it is held against: the same run before the moves. Choose a rate that the machine takes
(--rate): above that a backlog grows, and waits say nothing.

The pause of a shard is from the last decision of the source to the first read of the target,
as `ledger.moves` has it, and at a restart from release to claim; waits are the producers', from
due to answered. The result is audited: every transfer answered as it must be and kept once,
every balance right, or the run fails.

Example: python -m benchmarks.rebalancing --rate 50000
"""

import argparse
import asyncio
import contextlib
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import asyncpg
import numpy as np
import numpy.typing as npt

from benchmarks.feeding import Sent, entries
from benchmarks.report import Result, Row, Size, note, run
from benchmarks.serving import Ledger, new_ledger, running_engine
from benchmarks.workload import SHARDS, Transfers, fund, make_accounts, uniform
from engine.store.operations import open_operations
from engine.streams.streams import Streams
from shards.applying import Bounds, apply_plan
from shards.planning import make_plan

SIZES = {
    "rate": Size(50_000, 4_000, "transfers a second"),
    "seconds": Size(15, 6, "of each part: without moves, with moves"),
    "restart": Size(30, 15, "seconds for which the load goes on for the restarts"),
    "accounts": Size(10_000, 1_000, "between how many accounts"),
    "batch": Size(100, 20, "transfers an entry"),
}
PRODUCERS = 2
MOVED = range(SHARDS // 4)
WARM_UP_SECONDS = 3.0
STAGES = [
    ("source: commits what it decided", "paused_at", "released_at"),
    ("target: claims", "released_at", "claimed_at"),
    ("target: reads on", "claimed_at", "ready_at"),
]


async def move_about(ledger: Ledger, seconds: float) -> list[float]:
    """Move shards to and fro, one at a time; returns their pauses in milliseconds."""
    ends_at = time.time() + seconds
    streams = Streams(ledger.url)
    async with open_operations(ledger.dsn) as operations:
        turn = 0
        while time.time() < ends_at:
            shard = MOVED[turn % len(MOVED)]
            shards, workers = await operations.shards(), await operations.workers()
            [target] = [w.worker for w in workers if w.worker != shards[shard].worker]
            plan = make_plan(shards, workers, made_at="", moves={shard: target})
            bounds = Bounds(parallel=1)
            await apply_plan(operations, streams, plan, bounds, "benchmark", lambda _: None)
            turn += 1
    return await pauses_of(ledger, "paused_at", "ready_at")


async def pauses_of(ledger: Ledger, since: str, until: str) -> list[float]:
    """Between two columns of the planned moves that are done; milliseconds."""
    query = f"""
        SELECT {until} - {since} AS pause FROM ledger.moves
        WHERE plan IS NOT NULL AND state = 'done'"""  # noqa: S608 - names of ours
    return await milliseconds(ledger, query)


async def stages(ledger: Ledger) -> list[Row]:
    """What the pauses of the planned moves consist of."""
    rows: list[Row] = []
    for name, since, until in STAGES:
        taken = await pauses_of(ledger, since, until)
        rows.append(
            {"stage": name, "median_ms": _quantile(taken, 0.5), "max_ms": _quantile(taken, 1)}
        )
    return rows


async def unowned(ledger: Ledger, since: float) -> list[float]:
    """For how long shards were nobody's, of those that became so since then; milliseconds."""
    query = """
        SELECT owned_at - changed_at AS pause
        FROM (SELECT *, lead(changed_at) OVER (PARTITION BY shard ORDER BY flush) AS owned_at
              FROM ledger.ownership) AS changes
        WHERE worker = '00000000-0000-0000-0000-000000000000' AND changed_at > to_timestamp($1)
          AND owned_at IS NOT NULL AND former <> worker"""
    return await milliseconds(ledger, query, since)


async def milliseconds(ledger: Ledger, query: str, *args: float) -> list[float]:
    """The intervals that a query returns."""
    connection = await asyncpg.connect(ledger.dsn)
    rows = await connection.fetch(query, *args)
    await connection.close()
    return [row["pause"].total_seconds() * 1000 for row in rows]


class Timeline:
    """What the producers saw, entry by entry."""

    def __init__(self, ledger: Ledger, load: list[tuple[Transfers, Sent]], batch: int) -> None:
        places = [entries(ledger.accounts.shards[one.debit], batch) for one, _ in load]
        sizes = [[(shard, len(chosen)) for shard, chosen in each] for each in places]
        self._shards = np.array([shard for each in sizes for shard, _ in each])
        self._counts = np.array([count for each in sizes for _, count in each])
        self._due = np.concatenate([sent.due for _, sent in load])
        self._answered = np.concatenate([sent.answered for _, sent in load])

    def part(self, name: str, began: float, ended: float, pauses: list[float]) -> Row:
        """One part of the run."""
        moved = np.isin(self._shards, MOVED)
        inside = (self._due >= began) & (self._due < ended)
        waits = (self._answered - self._due) * 1000
        done = (self._answered >= began) & (self._answered < ended) & ~moved
        return {
            "part": name,
            "moves": len(pauses),
            "pause_median_ms": _quantile(pauses, 0.5),
            "pause_max_ms": _quantile(pauses, 1),
            "others_per_second": round(self._counts[done].sum() / (ended - began)),
            "wait_median_ms": _quantile(waits[inside], 0.5),
            "wait_p99_ms": _quantile(waits[inside], 0.99),
            "wait_max_ms": _quantile(waits[inside], 1),
        }


def _quantile(values: list[float] | npt.NDArray[np.float64], share: float) -> float | None:
    return round(float(np.quantile(values, share)), 1) if len(values) else None


def restart_each(ledger: Ledger, running: contextlib.ExitStack, engines: list[Any]) -> None:
    """Stop one engine after the other and start it anew."""
    for place, engine in enumerate(engines):
        engine.end()
        engines[place] = running.enter_context(running_engine(ledger, 1))


def measure(options: argparse.Namespace) -> Result:
    accounts = make_accounts(options.accounts)
    seconds = WARM_UP_SECONDS + 2 * options.seconds + options.restart
    count = round(options.rate * seconds / PRODUCERS)
    loads = [uniform(accounts, count, seed=30 + n) for n in range(PRODUCERS)]
    faults: list[str] = []
    with contextlib.ExitStack() as running:
        ledger = running.enter_context(new_ledger(accounts))
        engines = [running.enter_context(running_engine(ledger, 1)) for _ in range(2)]
        _, found = ledger.send(fund(accounts))
        faults += found
        pool = running.enter_context(ThreadPoolExecutor(PRODUCERS))
        per_second = options.rate / options.batch / PRODUCERS
        began = time.time()
        sending = [
            pool.submit(ledger.send, one, batch=options.batch, per_second=per_second)
            for one in loads
        ]
        time.sleep(WARM_UP_SECONDS + options.seconds)
        moving = time.time()
        note("shards move")
        pauses = asyncio.run(move_about(ledger, options.seconds))
        taken = asyncio.run(stages(ledger))
        restarting = time.time()
        note(f"{len(pauses)} moves; now the engines are restarted")
        restart_each(ledger, running, engines)
        restarted = time.time()
        released = asyncio.run(unowned(ledger, restarting))
        sent = [one.result() for one in sending]
        faults += [fault for _, found in sent for fault in found]
        for engine in engines:
            engine.end()
        faults += ledger.audit()
    timeline = Timeline(
        ledger, [(o, s) for o, (s, _) in zip(loads, sent, strict=True)], options.batch
    )
    rows = [
        timeline.part("without moves", began + WARM_UP_SECONDS, moving, []),
        timeline.part("with moves", moving, restarting, pauses),
        timeline.part("rolling restart", restarting, restarted, released),
    ]
    before, during = rows[0]["others_per_second"], rows[1]["others_per_second"]
    summary = {
        "rate": options.rate,
        "errors": len(faults),
        "moves": len(pauses),
        "pause_median_ms": rows[1]["pause_median_ms"],
        "pause_max_ms": rows[1]["pause_max_ms"],
        "others_ratio": round(during / before, 3),
        "restart_pause_max_ms": rows[2]["pause_max_ms"],
    }
    return Result(rows, faults, summary, {"Pauses": taken})


def main(arguments: list[str] | None = None) -> None:
    run(__doc__, measure, SIZES, arguments=arguments)


if __name__ == "__main__":
    main()
