"""How late timers are when many flows wake in one minute, and what flows asleep cost.

Flows are started for a time to come, at an even rate; each then takes one step and ends. Late is
what is committed after its time: the time of the next flush of its worker less that at which it was
due, so that nothing is left out. Meanwhile nobody starts anything. Beside it the memory of the
worker once all are asleep; it keeps some of those that it saw last. Audited: each has one end,
after its time.

Not measured: timers of steps that move money or wait for others.

Example: python -m benchmarks.flow_timers --timers 1000000
"""

import argparse
import asyncio
import time
import uuid
from typing import Final

import asyncpg

from benchmarks.flow_serving import flow_worker, opened
from benchmarks.report import Result, Size, note, run
from benchmarks.serving import Ledger, cpu_seconds, new_ledger, resident_mb, running_engine
from benchmarks.workload import make_accounts
from engine.flows import Amount, Flow, Input
from engine.flows.client import FlowClient

SIZES = {"timers": Size(200_000, 10_000, "flows that wake at 1,000,000 a minute")}
RATE: Final = 1_000_000 / 60
CHUNK: Final = 1000
LANES: Final = 4
START_RATE: Final = 8000
"""Flows a second that are started for sure."""

LATENESS: Final = """
WITH rounds AS (
    SELECT number, lead(time) OVER (PARTITION BY worker ORDER BY sequence) AS following
    FROM flows.flushes)
SELECT extract(epoch FROM coalesce(r.following, s.at) - d.due_at)::float8 AS seconds,
       s.at < d.due_at AS is_early
FROM flows.steps d
JOIN flows.steps s ON s.flow = d.flow AND s.seq = d.seq + 1
JOIN rounds r ON r.number = s.number
WHERE d.event = 'start_at' ORDER BY 1
"""


class Nothing(Input):
    """What each flow is started with."""

    amount: Amount


def waking() -> Flow:
    """One step, and an end."""
    flow = Flow("waking", version=1, input=Nothing, ledger=1)
    step = flow.review("?", when=Nothing.amount > 1000)
    end = flow.end("over")
    step.approved.go(end)
    step.refused.go(end)
    return flow


async def _start(client: FlowClient, timers: int, first_at: float) -> None:
    chunks = iter(range(0, timers, CHUNK))

    async def lane() -> None:
        for place in chunks:
            items = [{"id": str(uuid.uuid4()), "amount": 5} for _ in range(CHUNK)]
            at = round((first_at + place / RATE) * 1e6)
            if set(await client.start("waking", items, start_at=at)) != {"created"}:
                raise SystemExit("not all were created")

    await asyncio.gather(*(lane() for _ in range(LANES)))


async def _until_over(connection: asyncpg.Connection) -> None:
    while await connection.fetchval("SELECT EXISTS (SELECT FROM flows.open)"):  # noqa: ASYNC110 - Postgres tells it
        await asyncio.sleep(0.1)


async def _measure(ledger: Ledger, worker: int, timers: int) -> Result:
    async with opened(ledger, [waking()]) as (client, connection):
        began = time.time()
        first_at = began + timers / START_RATE + 5
        await _start(client, timers, first_at)
        if time.time() > first_at:
            raise SystemExit("starting them took longer than was thought")
        note(f"started: {timers / (time.time() - began):,.0f} flows/s")
        await asyncio.sleep(first_at - time.time())
        memory_mb = resident_mb(worker)["VmRSS"]
        before = cpu_seconds(worker)
        await _until_over(connection)
        used = cpu_seconds(worker) - before
        rows = await connection.fetch(LATENESS)
    late = [row["seconds"] for row in rows]
    faults = [] if len(late) == timers else [f"{timers} were started, and {len(late)} woke"]
    if any(row["is_early"] for row in rows):
        faults.append("some woke before their time")
    found = {
        "timers": timers,
        "late_seconds_median": round(late[len(late) // 2], 2),
        "late_seconds_p99": round(late[int(len(late) * 0.99)], 2),
        "late_seconds_max": round(late[-1], 2),
        "worker_cpu_us_per_timer": round(used / timers * 1e6),
        "worker_mb_asleep": memory_mb,
    }
    return Result([found], faults, found)


def measure(options: argparse.Namespace) -> Result:
    with (
        new_ledger(make_accounts(1)) as ledger,
        running_engine(ledger, 1),
        flow_worker(ledger) as worker,
    ):
        return asyncio.run(_measure(ledger, worker.pid, options.timers // CHUNK * CHUNK))


def main(arguments: list[str] | None = None) -> None:
    run(__doc__, measure, SIZES, arguments=arguments)


if __name__ == "__main__":
    main()
