"""What a Python program gets through `engine.connect()`, each in a process of its own.

One caller that awaits each transfer; 1,000 callers at once, whose transfers the client
gathers into entries; one call with many rows as columns. Each caller sends dicts with
uuids, as applications have them. Beside it a program without the engine: the same callers,
each transfer a transaction of its own that inserts the same rows, over a pool of connections
(16 at most), with no balance checked.

Example: python -m benchmarks.client
"""

import argparse
import asyncio
import multiprocessing
import time
import uuid
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import uvloop

import engine
from benchmarks.baseline import beside_inserts
from benchmarks.report import Result, Row, Size, note, run
from benchmarks.serving import WORKERS_BEST, funded
from benchmarks.workload import Transfers, make_accounts, uniform
from engine.client import Client

SIZES = {
    "transfers": Size(100_000, 10_000, "by 1,000 callers; by one a hundredth, as columns 5 times"),
    "accounts": Size(10_000, 1_000, "between how many accounts"),
    "workers": Size(WORKERS_BEST, WORKERS_BEST, "in one engine process"),
}
CALLERS = {1: 0.01, 1000: 1.0}
"""By the number of callers, the share of the transfers."""


def as_dicts(transfers: Transfers) -> list[dict[str, Any]]:
    """Transfers as an application has them."""
    rows = transfers.rows
    names = ("id", "debit_account_id", "credit_account_id")
    columns = [[uuid.UUID(bytes=one) for one in rows[name].tolist()] for name in names]
    return [
        {**dict(zip(names, ids, strict=True)), "amount": amount, "ledger": 1, "code": 1}
        for *ids, amount in zip(*columns, rows["amount_low"].tolist(), strict=True)
    ]


async def call(dsn: str, url: str, transfers: Transfers, callers: int) -> tuple[float, int]:
    """Some callers share out the transfers; returns the seconds taken and how many were created."""
    waiting = iter(as_dicts(transfers))
    created = 0

    async def caller(client: Client) -> None:
        nonlocal created
        for transfer in waiting:
            outcome = await client.create_transfer(transfer)
            created += outcome == 0

    async with engine.connect(dsn, url, when_full="wait") as client:
        began = time.perf_counter()
        await asyncio.gather(*(caller(client) for _ in range(callers)))
        return time.perf_counter() - began, created


async def call_with_columns(dsn: str, url: str, transfers: Transfers) -> tuple[float, int]:
    """One call with all rows."""
    async with engine.connect(dsn, url, when_full="wait") as client:
        began = time.perf_counter()
        outcomes = await client.create_transfers(transfers.rows, ordered=False, by_shard=True)
        return time.perf_counter() - began, int((outcomes == 0).sum())


def in_process(*arguments: Any) -> tuple[float, int]:
    """Run a function of this module that is a coroutine function on uvloop."""
    function, *rest = arguments
    return uvloop.run(function(*rest))


def measure(options: argparse.Namespace) -> Result:
    accounts = make_accounts(options.accounts)
    rows: list[Row] = []
    faults = []
    spawn = multiprocessing.get_context("spawn")
    with (
        funded(accounts, options.workers) as (ledger, process),
        ProcessPoolExecutor(1, mp_context=spawn) as pool,
    ):

        def measure_one(what: str, transfers: Transfers, *work: Any) -> None:
            function, *rest = work
            ledger.sent.append(transfers)
            count = len(transfers.rows)
            done = pool.submit(in_process, function, ledger.dsn, ledger.url, transfers, *rest)
            seconds, created = done.result()
            if created != count:
                faults.append(f"{what}: {created:,} of {count:,} were answered created")
            rows.append(
                {
                    "calls": what,
                    "transfers": count,
                    "transfers_per_second": round(count / seconds),
                }
            )
            note(f"{what}: {count / seconds:,.0f}/s")

        for callers, share in CALLERS.items():
            transfers = uniform(accounts, max(1, int(options.transfers * share)), seed=callers)
            what = f"{callers:,} caller{'s' if callers > 1 else ''}, one transfer a call"
            measure_one(what, transfers, call, callers)
        bulk = uniform(accounts, options.transfers * 5, seed=5)
        measure_one("one call with columns", bulk, call_with_columns)
        process.end()
        faults += ledger.audit()
        for row, connections in zip(rows, (1, 16, 16), strict=True):
            beside_inserts(row, ledger.dsn, connections)
    return Result(rows, faults)


def main(arguments: list[str] | None = None) -> None:
    run(__doc__, measure, SIZES, arguments=arguments)


if __name__ == "__main__":
    main()
