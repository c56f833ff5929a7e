"""`engine worker`: decide transfers."""

import os
from typing import Annotated

import typer

from engine.commands.addresses import Data, PostgresDsn, RedisUrl, find_addresses
from engine.commands.crew import (
    Crew,
    MetricsAddress,
    WorkerCount,
    deal_shards,
    parse_listen,
    parse_shards,
    run_until_signal,
)
from engine.commands.flow_worker import CodeFile, functions_of, make_worker
from engine.commands.logs import LogLevel, configure_logs
from engine.commands.screen import Json, out, print_json, run_busy_loop
from engine.errors import ConfigurationError
from engine.flows.worker import FlowWorker
from engine.servers import Addresses
from engine.store.reports import open_reports


def worker(
    workers: WorkerCount = 1,
    shards: Annotated[
        str | None,
        typer.Option(
            "--shards",
            metavar="SHARDS",
            help="The shards to work on, those and only those, as 0-7 or 0,2,5, split among "
            "the workers here; if not given, each takes its share of all.",
        ),
    ] = None,
    flows: CodeFile = None,
    postgres_dsn: PostgresDsn = None,
    redis_url: RedisUrl = None,
    data: Data = None,
    metrics: MetricsAddress = None,
    log_level: LogLevel = "info",
    json: Json = False,
) -> None:
    """Run workers: read the streams, decide, write to Postgres.

    Until Ctrl-C or TERM. Workers share the shards, wherever they run: one more takes
    over some of each, and when one stops or dies the others take what it had. A
    worker with --shards takes those as soon as no other such worker has them: a
    second one with the same shards stands by for the first.

    Example: engine worker --workers 2
    """
    configure_logs(log_level)
    addresses = find_addresses(postgres_dsn, redis_url, data)
    others = [] if flows is None else [make_worker(addresses, functions_of(flows))]
    listen = None if metrics is None else parse_listen(metrics, "--metrics")
    run_busy_loop(_work(addresses, parse_shards(shards), workers, listen, others, json=json))


async def _work(
    addresses: Addresses,
    wanted: list[int] | None,
    workers: int,
    listen: tuple[str, int] | None,
    others: list[FlowWorker],
    *,
    json: bool,
) -> None:
    async with open_reports(addresses.postgres_dsn) as reports:
        count = await reports.shard_count()
    if wanted is not None and wanted[-1] >= count:
        raise ConfigurationError(f"no shard {wanted[-1]}: the ledger has {count}, from 0")
    crew = Crew(addresses, deal_shards(wanted, workers), listen, others)

    def announce() -> None:
        if json:
            print_json(
                {
                    "event": "ready",
                    "pid": os.getpid(),
                    "workers": crew.describe(),
                    "metrics": crew.metrics_address,
                }
            )
        else:
            shards = sum(len(worker["shards"]) for worker in crew.describe())
            out.print(f"Working on {shards} of {count} shards. Ctrl-C stops.")

    await run_until_signal(lambda: crew.run(announce), crew.stop, crew.abandon)
