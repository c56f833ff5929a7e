"""`engine up`: servers, ledger and workers in one process, to develop and to try things."""

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final

import structlog
import typer

from engine.commands.crew import (
    Crew,
    MetricsAddress,
    WorkerCount,
    deal_shards,
    parse_listen,
    run_until_signal,
)
from engine.commands.flow_worker import CodeFile, functions_of, make_worker
from engine.commands.init import ShardCount
from engine.commands.logs import LogLevel, configure_logs
from engine.commands.own_servers import prepare, run_watched, running_servers, term_as_interrupt
from engine.commands.screen import Json, err, out, print_json, run_busy_loop
from engine.errors import ServerError
from engine.flows.calls import Function
from engine.servers import Addresses, Servers
from engine.settings import (
    DATA_DIRECTORY,
    DATA_VARIABLE,
    POSTGRES_VARIABLE,
    REDIS_VARIABLE,
    data_directory,
    read_variable,
)

WATCH_SECONDS: Final = 0.5
RESTARTS_MAX: Final = 5
"""A server that dies more often in the life of one `up` is not started again."""

_log = structlog.get_logger()


def up(
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            metavar="DIR",
            help=f"Where everything is kept. Else {DATA_VARIABLE} from the environment, else "
            f"{DATA_DIRECTORY}.",
        ),
    ] = None,
    shards: ShardCount = None,
    workers: WorkerCount = 1,
    flows: CodeFile = None,
    metrics: MetricsAddress = None,
    log_level: LogLevel = "info",
    json: Json = False,
) -> None:
    """Start a Postgres, a Valkey, the ledger and workers, all here.

    Until Ctrl-C or TERM. What is in the directory from the last time is there again. Other commands
    find these servers by the same --data.

    Example: engine up --data ./ledger
    """
    configure_logs(log_level)
    listen = None if metrics is None else parse_listen(metrics, "--metrics")
    directory = data_directory(data)
    given = [name for name in (POSTGRES_VARIABLE, REDIS_VARIABLE) if read_variable(name)]
    if given:
        verb = "are" if len(given) > 1 else "is"
        err.print(f"{' and '.join(given)} {verb} set, but `up` starts servers of its own.")
    with term_as_interrupt(), running_servers(directory) as servers:
        run_busy_loop(_serve(servers, shards, workers, listen, functions_of(flows), json=json))


async def _serve(
    servers: Servers,
    shards: int | None,
    workers: int,
    listen: tuple[str, int] | None,
    functions: Mapping[str, Function],
    *,
    json: bool,
) -> None:
    addresses, count = await prepare(servers, shards)
    others = [make_worker(addresses, functions)]
    crew = Crew(addresses, deal_shards(None, workers), listen, others)

    def announce() -> None:
        if json:
            print_json(
                {
                    "event": "ready",
                    **addresses._asdict(),
                    "owner_dsn": servers.postgres.dsn,
                    "pid": os.getpid(),
                    "shards": count,
                    "workers": workers,
                    "data": str(servers.directory),
                    "metrics": crew.metrics_address,
                }
            )
        else:
            _greet(servers, addresses, count, workers)

    await run_until_signal(
        lambda: run_watched(crew.run(announce), _watch(servers)), crew.stop, crew.abandon
    )


async def _watch(servers: Servers) -> None:
    """Start a server again that has died: its data are on disk, the workers wait for it.

    Raises:
        ServerError: When it cannot be started, or dies again and again.
    """
    restarts = 0
    while True:
        await asyncio.sleep(WATCH_SECONDS)
        for name, server in (("Postgres", servers.postgres), ("Valkey", servers.valkey)):
            if server.is_running:
                continue
            restarts += 1
            if restarts > RESTARTS_MAX:
                raise ServerError(f"{name} keeps dying; its log: {server.log_path}")
            _log.error("server_died", server=name, log=str(server.log_path), action="start again")
            await asyncio.to_thread(server.start)
            _log.info("server_started", server=name)


def _greet(servers: Servers, addresses: Addresses, shards: int, workers: int) -> None:
    directory = os.path.relpath(servers.directory)
    option = "" if Path(directory) == DATA_DIRECTORY else f" --data {directory}"
    out.print("The engine is up.", style="bold green")
    out.print(f"  Postgres  {addresses.postgres_dsn}")
    out.print(f"  Redis     {addresses.redis_url}")
    out.print(f"  data      {servers.directory}")
    out.print(f"  {shards} shards, {workers} {'worker' if workers == 1 else 'workers'}")
    out.print("\nNext, in another terminal here:")
    out.print(f"  engine accounts create accounts.jsonl{option}")
    out.print(f"  engine submit transfers.jsonl{option}")
    out.print(f"  engine status{option}")
    out.print(f'  psql "{addresses.postgres_dsn}" -c "TABLE ledger.balances"')
    out.print("\nCtrl-C stops it; the data stay.")
