"""The program `shards`: who works on what, for operators."""

from typing import Annotated, Final

import typer

from engine.commands.addresses import Data, PostgresDsn, RedisUrl, find_addresses, stream_prefix
from engine.commands.health import gather_status
from engine.commands.main import run_app
from engine.commands.screen import Json, print_json, run_loop
from engine.commands.status import show_shards, show_verdict
from engine.commands.verify import print_report
from engine.servers import Addresses
from engine.store.reading import snapshot
from engine.streams import Streams
from engine.verify.report import Report
from engine.verify.run import checks, run_check
from engine.verify.streams import check_streams

CHECKS: Final = frozenset({"flushes", "positions", "ownership", "versions"})
"""Those of `engine verify` that concern who wrote for which shard, and in which order."""

app = typer.Typer(
    name="shards",
    help="Shards, the slices of the ledger, and the workers that own them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


@app.callback()
def shards() -> None:
    """Shards, the slices of the ledger, and the workers that own them."""


@app.command()
def status(
    waiting_seconds_max: Annotated[
        float,
        typer.Option("--waiting-seconds-max", min=0, help="How long an entry may wait."),
    ] = 30.0,
    postgres_dsn: PostgresDsn = None,
    redis_url: RedisUrl = None,
    data: Data = None,
    json: Json = False,
) -> None:
    """Show each shard: its worker, its position, what waits; exit 1 when something is wrong.

    Example: shards status --json
    """
    addresses = find_addresses(postgres_dsn, redis_url, data)
    found = run_loop(gather_status(addresses, waiting_seconds_max))
    if json:
        print_json(found.shards)
    else:
        show_shards(found.shards)
        show_verdict(found)
    raise typer.Exit(0 if found.healthy else 1)


@app.command()
def verify(
    postgres_dsn: PostgresDsn = None,
    redis_url: RedisUrl = None,
    data: Data = None,
    json: Json = False,
) -> None:
    """Check the chains of flushes and the positions of all shards; `engine verify` checks all.

    Example: shards verify
    """
    report = run_loop(_verify(find_addresses(postgres_dsn, redis_url, data)))
    if json:
        print_json(report)
    else:
        print_report(report)
    raise typer.Exit(0 if report.passed else 1)


async def _verify(addresses: Addresses) -> Report:
    streams = Streams(addresses.redis_url, stream_prefix())
    try:
        await streams.open()
        async with snapshot(addresses.postgres_dsn) as connection:
            results = [
                await run_check(connection, check) for check in checks() if check.name in CHECKS
            ]
            results.append(
                await check_streams(connection, streams.ends, streams.read_below, streams.prefix)
            )
    finally:
        await streams.close()
    return Report(results, all(result.passed for result in results))


def run() -> None:
    """Run the command of the command line and exit: 0 done, 1 failed, 2 wrong usage."""
    run_app(app)


if __name__ == "__main__":
    run()
