"""`engine flows`: define, start and watch flows, and see to those that are stuck."""

import sys
import uuid
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Annotated, Any, Final

import typer

from engine.commands.addresses import Data, PostgresDsn, RedisUrl, find_addresses
from engine.commands.crew import run_until_signal
from engine.commands.flow_acts import cancel, resolve, resume, signal
from engine.commands.flow_client import (
    EPOCH,
    By,
    Id,
    Timeout,
    parse_flow,
    read_lines,
    show_rows,
    with_client,
)
from engine.commands.flow_worker import CodeFile, FlowsFile, functions_of, load_flows, make_worker
from engine.commands.logs import LogLevel, configure_logs
from engine.commands.screen import Json, print_json_lines, run_busy_loop
from engine.errors import InputError
from engine.flows.charts import as_mermaid, as_text
from engine.flows.client import FlowClient
from engine.flows.inputs import microseconds_of
from engine.flows.store import uuid_bytes

LINES_MAX: Final = 8000

flows_app = typer.Typer(name="flows", help="Money movement in several steps.", no_args_is_help=True)


@flows_app.command()
def define(
    file: FlowsFile,
    postgres_dsn: PostgresDsn = None,
    redis_url: RedisUrl = None,
    data: Data = None,
    json: Json = False,
) -> None:
    """Add the definitions of a file; a version that is there never changes.

    Example: engine flows define payout.py
    """
    tables = [flow.table() for flow in load_flows(file)]

    async def work(client: FlowClient) -> list[dict[str, Any]]:
        return [
            {
                "name": table.name,
                "version": table.version,
                "outcome": await client.define(table),
                "hash": table.hash,
            }
            for table in tables
        ]

    show_rows(with_client(find_addresses(postgres_dsn, redis_url, data), work), json=json)


@flows_app.command("list")
def list_definitions(
    postgres_dsn: PostgresDsn = None,
    redis_url: RedisUrl = None,
    data: Data = None,
    json: Json = False,
) -> None:
    """Definitions, and how many flows of each are open.

    Example: engine flows list
    """

    async def work(client: FlowClient) -> list[dict[str, Any]]:
        found = await client.definitions()
        return [{k: v for k, v in row.items() if k != "source"} for row in found]

    show_rows(with_client(find_addresses(postgres_dsn, redis_url, data), work), json=json)


@flows_app.command()
def show(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Of the definition.")],
    mermaid: Annotated[bool, typer.Option("--mermaid", help="As a chart in mermaid.")] = False,
    postgres_dsn: PostgresDsn = None,
    redis_url: RedisUrl = None,
    data: Data = None,
    json: Json = False,
) -> None:
    """Print the newest version of a definition.

    Example: engine flows show payout --mermaid
    """
    addresses = find_addresses(postgres_dsn, redis_url, data)
    table = with_client(addresses, lambda client: client.table(name))
    if json:
        sys.stdout.write(table.source.decode() + "\n")
    else:
        sys.stdout.write(as_mermaid(table) if mermaid else as_text(table))


@flows_app.command()
def start(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Of the definition.")],
    file: Annotated[str, typer.Argument(metavar="FILE", help="JSON lines; - for standard input.")],
    by: By = "",
    start_at: Annotated[
        str | None, typer.Option("--start-at", metavar="T", help="As 2026-01-31T12:00:00Z.")
    ] = None,
    timeout: Timeout = 60,
    postgres_dsn: PostgresDsn = None,
    redis_url: RedisUrl = None,
    data: Data = None,
    json: Json = False,
) -> None:
    """Start a flow for each line: its `id`, and the fields of the input.

    Prints id and outcome of each, in order, as JSON lines. Sending a line twice is harmless.

    Example: engine flows start payout payouts.jsonl --by ann
    """
    del json  # what it prints are lines of JSON, with or without
    at = 0 if start_at is None else _time(start_at)
    items = read_lines(file)

    async def work(client: FlowClient) -> None:
        for first in range(0, len(items), LINES_MAX):
            piece = items[first : first + LINES_MAX]
            good = [item for item in piece if _has_id(item)]
            outcomes = iter(await client.start(name, good, by=by, start_at=at))
            print_json_lines(
                {"id": i.get("id"), "outcome": next(outcomes) if _has_id(i) else "invalid_input"}
                for i in piece
            )

    with_client(find_addresses(postgres_dsn, redis_url, data), work, timeout)


def _has_id(item: Mapping[str, Any]) -> bool:
    written = item.get("id")
    return isinstance(written, str) and uuid_bytes(written) is not None


def _time(text: str) -> int:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r}: write a time as 2026-01-31T12:00:00Z") from None
    if found.tzinfo is None:
        raise typer.BadParameter(f"{text!r} has no time zone: write Z for UTC")
    return (found - EPOCH) // timedelta(microseconds=1)


@flows_app.command()
def get(
    flow: Id,
    postgres_dsn: PostgresDsn = None,
    redis_url: RedisUrl = None,
    data: Data = None,
    json: Json = False,
) -> None:
    """Show a flow as it is now.

    Example: engine flows get 019b0000-0000-7000-8000-00000000000a
    """
    found = with_client(
        find_addresses(postgres_dsn, redis_url, data),
        lambda client: client.current([parse_flow(flow)]),
    )
    if not found:
        raise InputError(f"there is no flow {flow}")
    show_rows(found, json=json)


@flows_app.command()
def steps(
    flow: Id,
    postgres_dsn: PostgresDsn = None,
    redis_url: RedisUrl = None,
    data: Data = None,
    json: Json = False,
) -> None:
    """Show the journal of a flow.

    Example: engine flows steps 019b0000-0000-7000-8000-00000000000a
    """
    found = with_client(
        find_addresses(postgres_dsn, redis_url, data), lambda client: client.steps(parse_flow(flow))
    )
    if not found:
        raise InputError(f"there is no flow {flow}")
    show_rows(found, json=json)


@flows_app.command("open")
def open_flows(
    older: Annotated[
        str, typer.Option("--older", metavar="AGE", help="Only those as old as that, as 1h.")
    ] = "",
    postgres_dsn: PostgresDsn = None,
    redis_url: RedisUrl = None,
    data: Data = None,
    json: Json = False,
) -> None:
    """Flows that have not ended, the oldest first.

    Example: engine flows open --older 1h
    """
    seconds = microseconds_of(older, "--older") / 1e6 if older else 0.0
    found = with_client(
        find_addresses(postgres_dsn, redis_url, data), lambda client: client.open_flows(seconds)
    )
    show_rows(found, json=json)


for _act in (cancel, resume, resolve, signal):
    flows_app.command()(_act)


@flows_app.command()
def worker(
    flows: CodeFile = None,
    postgres_dsn: PostgresDsn = None,
    redis_url: RedisUrl = None,
    data: Data = None,
    log_level: LogLevel = "info",
    json: Json = False,
) -> None:
    """Run a flow worker, until Ctrl-C or TERM.

    Example: engine flows worker --flows payout.py
    """
    configure_logs(log_level)
    made = make_worker(find_addresses(postgres_dsn, redis_url, data), functions_of(flows))
    if json:
        print_json_lines([{"event": "started", "worker": str(uuid.UUID(bytes=made.store.worker))}])
    run_busy_loop(run_until_signal(made.run, made.stop, made.abandon))
