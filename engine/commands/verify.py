"""`engine verify`: are the promises kept?"""

from pathlib import Path
from typing import Annotated, Final

import typer

from engine.commands.addresses import (
    Data,
    PostgresDsn,
    RedisUrl,
    find_addresses,
    find_postgres,
)
from engine.commands.chain import read_kept
from engine.commands.progress import progress_bar
from engine.commands.screen import Json, out, print_json, print_table, run_loop
from engine.operating.verifications import record_verification
from engine.settings import stream_prefix
from engine.streams.streams import Streams
from engine.verify.chain import verify_chain
from engine.verify.heads import Heads
from engine.verify.report import CheckResult, Report
from engine.verify.run import verify as verify_ledger

OFFENDERS_SHOWN: Final = 3


def verify(
    chain: Annotated[
        bool,
        typer.Option("--chain", help="Make every digest and link of the chain again, instead."),
    ] = False,
    heads: Annotated[
        Path | None,
        typer.Option(
            "--heads",
            metavar="FILE",
            help="With --chain: hold it to what `engine chain --json` printed before.",
        ),
    ] = None,
    processes: Annotated[
        int | None,
        typer.Option(
            "--processes",
            min=1,
            help="With --chain: how many read it; else one a core if it is long.",
        ),
    ] = None,
    streams: Annotated[
        bool, typer.Option("--streams/--no-streams", help="Compare with the streams in Redis too.")
    ] = True,
    postgres_dsn: PostgresDsn = None,
    redis_url: RedisUrl = None,
    data: Data = None,
    json: Json = False,
) -> None:
    """Check every posting, balance, id and position of the ledger.

    It ends with 1 when one is wrong. On one snapshot, while everything goes on working.

    Example: engine verify
    """
    if heads is not None and not chain:
        raise typer.BadParameter("--heads is compared with the chain: give --chain with it")
    if chain:
        kept = None if heads is None else read_kept(heads)
        report = run_loop(_verify_chain(find_postgres(postgres_dsn, data), kept, processes))
    elif streams:
        dsn, url = find_addresses(postgres_dsn, redis_url, data)
        report = run_loop(run_verify(dsn, url, hidden=False))
    else:
        report = run_loop(run_verify(find_postgres(postgres_dsn, data), None, hidden=False))
    if json:
        print_json(report)
    else:
        print_report(report)
    raise typer.Exit(0 if report.passed else 1)


async def _verify_chain(postgres_dsn: str, kept: Heads | None, processes: int | None) -> Report:
    with progress_bar("Reading accounts and links", None) as bar:
        before = 0

        def on_progress(done: int, total: int, title: str) -> None:
            nonlocal before
            bar.relabel(f"of {total:,} flushes: {title}")
            bar.advance(done - before)
            before = done

        report = await verify_chain(postgres_dsn, kept, on_progress, processes)
    await record_verification(postgres_dsn, report)
    return report


async def run_verify(postgres_dsn: str, redis_url: str | None, *, hidden: bool) -> Report:
    """Run all checks, with a bar that says which one is under way.

    Args:
        postgres_dsn: The ledger.
        redis_url: The streams; None to leave them out.
        hidden: Show no bar.
    """
    with progress_bar("Reading", None, hidden=hidden) as bar:

        def on_progress(done: int, total: int, title: str) -> None:
            bar.relabel(f"of {total} checks: {title}")
            if done:
                bar.advance(1)

        if redis_url is None:
            report = await verify_ledger(postgres_dsn, None, on_progress=on_progress)
            await record_verification(postgres_dsn, report)
            return report
        streams = Streams(redis_url, stream_prefix())
        try:
            await streams.open()
            report = await verify_ledger(
                postgres_dsn,
                streams.ends,
                entries_below=streams.read_below,
                prefix=streams.prefix,
                on_progress=on_progress,
            )
            await record_verification(postgres_dsn, report)
            return report
        finally:
            await streams.close()


def print_report(report: Report) -> None:
    """Print a line for each check, those who fail it, and the verdict."""
    print_table(
        ["check", "", "what holds", "counted", "seconds"],
        [
            (
                check.name,
                "ok" if check.passed else "FAILED",
                check.title,
                ", ".join(f"{count:,} {what}" for what, count in check.counted.items()),
                f"{check.seconds:.2f}",
            )
            for check in report.checks
        ],
        numbers=["seconds"],
    )
    failed = [check for check in report.checks if not check.passed]
    for check in failed:
        _print_offenders(check)
    if failed:
        names = ", ".join(check.name for check in failed)
        out.print(f"\nNOT PASSED: {names}", style="bold red")
        out.print(
            "Stop sending, keep the servers and the logs as they are, and find out why: "
            "--json names more offenders."
        )
    else:
        out.print(f"\nAll {len(report.checks)} checks passed.", style="green")


def _print_offenders(check: CheckResult) -> None:
    out.print(f"\n{check.name}: {check.faults:,} at fault", style="red")
    for offender in check.offenders[:OFFENDERS_SHOWN]:
        words = [f"{name} {value}" for name, value in offender.items() if name != "fault"]
        out.print(f"  {offender.get('fault', '')}: {', '.join(words)}")
