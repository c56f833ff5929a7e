"""One transfer an entry, in a closed loop through the streams: from append to answer.

With one in flight it is the latency of an idle engine; with 1,000 its throughput where no
producer gathers anything. Beside it, what has to be waited for in any case: a transaction
that inserts the same three rows, and waits for the disk, by as many connections (16 at
most), without reading, deciding, answering.

With --trace: where the time of one in flight goes, stage by stage, by clocks in the engine,
which cost it some of what they show.

Example: python -m benchmarks.singles
"""

import argparse
import asyncio

import asyncpg
import numpy as np

from benchmarks.baseline import beside_inserts
from benchmarks.report import Result, Row, Size, note, run
from benchmarks.serving import cpu_seconds, funded
from benchmarks.stages import table
from benchmarks.workload import make_accounts, uniform

SIZES = {
    "transfers": Size(50_000, 5_000, "with 1,000 in flight; with one a fiftieth"),
    "accounts": Size(10_000, 1_000, "between how many accounts"),
    "workers": Size(1, 1, "in one engine process"),
}
PARTS = {1: 50, 10: 10, 1000: 1}
"""By how many are in flight, by what the number of transfers is divided."""


def trace(options: argparse.Namespace) -> Result:
    """Where the microseconds of a transfer go that is in flight by itself."""
    accounts = make_accounts(options.accounts)
    count = options.transfers // PARTS[1]
    with funded(accounts, options.workers, stages=True) as (ledger, engine):
        began = cpu_of_backends(ledger.dsn)
        sent, faults = ledger.send(uniform(accounts, count, seed=1), batch=1, in_flight_max=1)
        ended = cpu_of_backends(ledger.dsn)
        engine.end()
        faults += ledger.audit()
    rows = [
        {**row, "calls": None if row["calls"] is None else row["calls"] / count}
        for row in table(engine.stages, count)
    ]
    median_us, mean_us = np.median(sent.latencies_ms()) * 1000, sent.latencies_ms().mean() * 1000
    beside = {
        "Postgres, the backends": (ended - began) / count * 1e6,
        "the producer": sent.cpu_seconds / count * 1e6,
    }
    rows += [
        {"stage": name, "cpu_us": round(cpu, 1), "wall_us": None, "calls": None}
        for name, cpu in beside.items()
    ]
    for name, wall in (("from XADD to the answer, median", median_us), ("mean", mean_us)):
        rows.append({"stage": name, "cpu_us": None, "wall_us": round(float(wall)), "calls": None})
    return Result(rows, faults)


def cpu_of_backends(dsn: str) -> float:
    """CPU seconds of what serves the clients of a Postgres on this machine. Linux only."""
    return asyncio.run(_cpu_of_backends(dsn))


async def _cpu_of_backends(dsn: str) -> float:
    connection = await asyncpg.connect(dsn)
    try:
        pids = await connection.fetch(
            "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend'"
        )
    finally:
        await connection.close()
    return sum(cpu_seconds(row["pid"]) for row in pids)


def measure(options: argparse.Namespace) -> Result:
    if options.trace:
        return trace(options)
    accounts = make_accounts(options.accounts)
    rows: list[Row] = []
    faults = []
    with funded(accounts, options.workers) as (ledger, engine):
        for in_flight, divisor in PARTS.items():
            transfers = uniform(accounts, options.transfers // divisor, seed=in_flight)
            sent, found = ledger.send(transfers, batch=1, in_flight_max=in_flight)
            per_second = len(transfers.rows) / sent.seconds
            median, most = np.quantile(sent.latencies_ms(), (0.5, 0.99))
            rows.append(
                {
                    "in_flight": in_flight,
                    "transfers": len(transfers.rows),
                    "transfers_per_second": round(per_second),
                    "median_ms": round(float(median), 3),
                    "p99_ms": round(float(most), 3),
                }
            )
            note(f"{in_flight} in flight: {per_second:,.0f}/s")
            faults += found
        engine.end()
        faults += ledger.audit()
        for row in rows:
            beside_inserts(row, ledger.dsn, min(16, row["in_flight"]))
    return Result(rows, faults)


def main(arguments: list[str] | None = None) -> None:
    run(__doc__, measure, SIZES, more=_add_trace, arguments=arguments)


def _add_trace(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--trace", action="store_true", help="where the time of one in flight goes")


if __name__ == "__main__":
    main()
