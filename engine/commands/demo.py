"""`engine demo`: watch it work, on servers that are thrown away."""

import asyncio
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import typer

from engine.client import connect
from engine.commands.demo_flow import FlowStory
from engine.commands.demo_run import Measured, Run, WorkerProcess
from engine.commands.demo_story import Story
from engine.commands.logs import LogLevel, configure_logs
from engine.commands.own_servers import prepare, run_watched, running_servers, term_as_interrupt
from engine.commands.progress import spinner
from engine.commands.screen import Json, out, print_json, run_busy_loop
from engine.commands.verify import print_report, run_verify
from engine.errors import InvariantBroken
from engine.servers import Servers
from engine.store.reports import open_reports
from engine.verify.report import Report

RACE_SHARE: Final = 3
"""How many times the load the last act has: it ends all the sooner."""


def demo(
    transfers: Annotated[
        int, typer.Option("--transfers", min=1000, max=10**9, help="How many the load has.")
    ] = 200_000,
    accounts: Annotated[
        int, typer.Option("--accounts", min=200, max=1_000_000, help="Between how many accounts.")
    ] = 10_000,
    keep: Annotated[
        Path | None,
        typer.Option("--keep", metavar="DIR", help="Keep the data in this new directory."),
    ] = None,
    log_level: LogLevel = "error",
    json: Json = False,
) -> None:
    """Watch it work, on servers that are thrown away.

    A few payments and a payout in several steps to follow, then many payments, and a worker
    killed amid them; at last as many a second as go. It takes less than a minute.

    Example: engine demo --transfers 100000 --keep ./demo
    """
    configure_logs(log_level)
    if keep is not None and keep.exists() and not keep.is_dir():
        raise typer.BadParameter(f"--keep {keep}: it is no directory")
    if keep is not None and keep.exists() and any(keep.iterdir()):
        raise typer.BadParameter(f"--keep {keep}: it is not empty; the demo begins with nothing")
    with term_as_interrupt(), _directory(keep) as directory, running_servers(directory) as servers:
        report = run_busy_loop(_demo(servers, transfers, accounts, silent=json))
    if json:
        print_json(report)
    else:
        _next_steps(keep)


@contextmanager
def _directory(keep: Path | None) -> Iterator[Path]:
    if keep is not None:
        yield keep
        return
    directory = Path(tempfile.mkdtemp(prefix="engine-demo-"))
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


async def _demo(servers: Servers, transfers: int, accounts: int, *, silent: bool) -> dict[str, Any]:
    addresses, _ = await prepare(servers, None)
    worker = WorkerProcess(servers.directory, 1)
    run: Run | None = None
    try:
        with spinner("Starting a worker"):
            await worker.wait_ready()
        async with (
            connect(*addresses, when_full="wait") as client,
            open_reports(addresses.postgres_dsn) as reports,
        ):
            run = Run(client, reports, servers.directory, worker, silent=silent)

            async def work() -> Report:
                story = Story(client, reports, silent=silent)
                await story.tell()
                bakery = story.ids["bakery"]
                await FlowStory(client, reports, addresses, bakery, silent=silent).tell()
                population = await run.prepare(accounts)
                await run.measure_one_at_a_time(population)
                await run.drive(population, transfers)
                await run.race(population, RACE_SHARE * transfers, servers.postgres.dsn)
                with spinner("Checking every posting, balance and id"):
                    return await run_verify(*addresses, hidden=True)

            report = await run_watched(work(), run.watch())
    finally:
        await asyncio.to_thread((worker if run is None else run.worker).stop)
    if not silent:
        _summarize(run.measured, report)
    if not report.passed:
        if not silent:
            print_report(report)
        failed = ", ".join(check.name for check in report.checks if not check.passed)
        raise InvariantBroken(f"checks did not pass: {failed}")
    return {**msgspec.structs.asdict(run.measured), "verified": [c.name for c in report.checks]}


def _summarize(measured: Measured, report: Report) -> None:
    cores = len(os.sched_getaffinity(0))
    out.print("\nWhat came of it", style="bold")
    out.print(
        f"  {measured.transfers:,} transfers, {measured.transfers_per_second:,.0f} a second, on "
        f"{cores} cores with producer, worker,\n  Valkey and Postgres on them (and "
        f"{measured.seconds_without_worker:.1f} s without a worker, not counted)"
    )
    out.print(f"  {measured.created:>10,}  created")
    out.print(f"  {measured.declined:>10,}  declined for want of funds, as they should be")
    out.print(f"  {measured.repeated:>10,}  sent twice and done once")
    out.print(f"  {measured.unexpected:>10,}  answered otherwise than known beforehand")
    out.print(
        f"  One payment at a time: median {measured.latency_ms_median:.1f} ms, p99 "
        f"{measured.latency_ms_p99:.1f} ms, until it is durable and answered"
    )
    rate, beside = measured.full_entries_per_second, measured.function_per_second
    out.print(f"  In full entries: {rate:,.0f} transfers a second", end="" if beside else "\n")
    if beside:
        out.print(f", {rate / beside:.0f} times the {beside:,.0f} of a Postgres function")
    passed = sum(check.passed for check in report.checks)
    out.print(f"  `engine verify`: {passed} of {len(report.checks)} checks passed")
    if report.passed:
        out.print(
            "  (the postings of each ledger sum to zero, no id counts twice, each balance is the "
            "sum of its postings)"
        )


def _next_steps(keep: Path | None) -> None:
    out.print("\nWhat to try next", style="bold")
    if keep is None:
        out.print("  engine up                    a Postgres, a Valkey and a worker of your own")
        out.print("  engine demo --keep ./demo    this again, to look at afterwards")
    else:
        out.print(f"  engine up --data {keep}           start it again, with all that is in it")
        out.print(f"  engine balance alice bob --data {keep}")
        out.print(f"  engine history alice --data {keep}")
    out.print("  engine --help")
