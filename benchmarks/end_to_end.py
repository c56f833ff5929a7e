"""Durable transfers a second, from the first XADD to the last answer, beside bare COPY.

What runs: a producer process that adds entries of `bin` batches and reads the answers; an
engine process; Valkey; Postgres; all on this machine, over TCP. Every account has a limit
that is checked, every transfer is answered, every commit waits for the disk.

What it is held against: COPY of the same rows into the same tables by as many connections,
in flushes of the same size, made beforehand: nothing read, decided, fenced or answered.

The result is audited: all answered `created`, all kept once, every balance as the transfers
add up, versions without gaps. What does not add up fails the run.

Example: python -m benchmarks.end_to_end --transfers 2000000 --workers 2
"""

import argparse
import asyncio
import statistics

from benchmarks import stages
from benchmarks.against import compare
from benchmarks.baseline import copy_bare, make_flushes
from benchmarks.program import measured
from benchmarks.report import Result, Row, Size, note, run
from benchmarks.serving import WORKERS_BEST, CpuTimes, funded
from benchmarks.workload import make_accounts, uniform

SIZES = {
    "transfers": Size(2_000_000, 500_000, "how many"),
    "accounts": Size(10_000, 10_000, "between how many accounts"),
    "rounds": Size(1, 1, "runs, each on fresh servers; medians count"),
    "workers": Size(WORKERS_BEST, WORKERS_BEST, "in one engine process"),
}


def run_once(options: argparse.Namespace) -> tuple[Row, list[str], list[Row]]:
    """One run on fresh servers: the engine, then the baseline."""
    accounts = make_accounts(options.accounts)
    transfers = uniform(accounts, options.transfers)
    with funded(accounts, options.workers, stages=options.stages) as (ledger, engine):
        cpu = CpuTimes(ledger, engine)
        sent, faults = ledger.send(transfers)
        costs = cpu.per_transfer(options.transfers)
        costs["producer_cpu_us"] = round(sent.cpu_seconds / options.transfers * 1e6, 2)
        engine.end()
        faults += ledger.audit()
        bare = None
        if measured().is_this:
            flushes = make_flushes(accounts, transfers.rows, options.workers)
            bare = asyncio.run(copy_bare(ledger.dsn, flushes))
    row = {
        "transfers": options.transfers,
        "workers": options.workers,
        "seconds": round(sent.seconds, 3),
        "transfers_per_second": round(options.transfers / sent.seconds),
        "bare_copy_transfers_per_second": round(options.transfers / bare) if bare else None,
        "ratio": round(bare / sent.seconds, 3) if bare else None,
        **costs,
    }
    return row, faults, stages.table(engine.stages, options.transfers)


def measure(options: argparse.Namespace) -> Result:
    rows: list[Row] = []
    faults: list[str] = []
    details = {}
    for turn in range(options.rounds):
        row, found, costs = run_once(options)
        beside = f", {row['ratio']} of bare COPY" if row["ratio"] else ""
        note(f"round {turn + 1}: {row['transfers_per_second']:,}/s{beside}")
        rows.append(row)
        faults += found
        details = {"Microseconds a transfer in the engine's process": costs} if costs else {}
    names = ("transfers_per_second", "bare_copy_transfers_per_second", "ratio")
    summary = {name: statistics.median(row[name] for row in rows) for name in names if row[name]}
    return Result(rows, faults, summary, details)


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--stages", action="store_true", help="what each stage costs the worker")


def main(arguments: list[str] | None = None) -> None:
    run(__doc__, measure, SIZES, add_options, arguments, compare)


if __name__ == "__main__":
    main()
