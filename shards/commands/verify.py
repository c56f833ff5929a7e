"""`shards verify`: who wrote for which shard, and in which order."""

from typing import Final

import typer

from engine.commands.addresses import Data, PostgresDsn, RedisUrl, find_addresses
from engine.commands.screen import Json, print_json, run_loop
from engine.commands.verify import print_report
from engine.servers import Addresses
from engine.settings import stream_prefix
from engine.store.snapshot import snapshot
from engine.streams.streams import Streams
from engine.verify.report import Report
from engine.verify.run import checks, run_check
from engine.verify.streams import check_streams

CHECKS: Final = frozenset({"flushes", "positions", "ownership", "versions"})
"""Those of `engine verify` that concern who wrote for which shard, and in which order."""


def verify(
    postgres_dsn: PostgresDsn = None,
    redis_url: RedisUrl = None,
    data: Data = None,
    json: Json = False,
) -> None:
    """Check chains, positions, owners and the order of each account.

    `engine verify` checks these, and all the rest.

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
