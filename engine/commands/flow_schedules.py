"""`engine flows schedule`: flows that recur."""

import uuid
from typing import Annotated, Any, Final

import typer

from engine.commands.addresses import Data, PostgresDsn, RedisUrl, find_addresses
from engine.commands.flow_client import By, parse_flow, read_lines, show_rows, with_client
from engine.commands.flows import flows_app
from engine.commands.screen import Json, out
from engine.errors import InputError
from engine.flows.client import AddedSchedule

schedule_app = typer.Typer(name="schedule", help="Flows that recur.", no_args_is_help=True)
flows_app.add_typer(schedule_app)

ScheduleId = Annotated[str, typer.Argument(metavar="ID", help="The schedule's id, a uuid.")]

_HIDDEN: Final = {"input"}


@schedule_app.command()
def add(
    schedule: ScheduleId,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Of the definition.")],
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="A line of JSON, the input; - for standard input.")
    ],
    rule: Annotated[
        str,
        typer.Option("--rule", help="minute hour day month weekday, as `30 2 * 3,10 7L`."),
    ],
    timezone: Annotated[
        str, typer.Option("--timezone", metavar="ZONE", help="As Europe/Berlin.")
    ] = "UTC",
    missed: Annotated[
        str, typer.Option("--missed", help="What of missed times is made up for: all, last, none.")
    ] = "last",
    by: By = "",
    postgres_dsn: PostgresDsn = None,
    redis_url: RedisUrl = None,
    data: Data = None,
) -> None:
    """Start a flow again and again, by a rule, each time once.

    Example: engine flows schedule add $(uuidgen) payout line.json --rule "0 9 1 * *"
    """
    lines = read_lines(file)
    if len(lines) != 1 or "id" in lines[0]:
        raise InputError("Expected one line with the fields of the input, and no id")
    added = AddedSchedule(parse_flow(schedule), name, lines[0], rule, timezone, missed, by)
    addresses = find_addresses(postgres_dsn, redis_url, data)
    out.print(with_client(addresses, lambda client: client.add_schedule(added)))


@schedule_app.command("list")
def list_schedules(
    postgres_dsn: PostgresDsn = None,
    redis_url: RedisUrl = None,
    data: Data = None,
    json: Json = False,
) -> None:
    """Schedules, and when each happens next.

    Example: engine flows schedule list
    """
    found: list[dict[str, Any]] = with_client(
        find_addresses(postgres_dsn, redis_url, data), lambda client: client.schedules()
    )
    show_rows([{k: v for k, v in row.items() if k not in _HIDDEN} for row in found], json=json)


@schedule_app.command()
def remove(
    schedule: ScheduleId,
    postgres_dsn: PostgresDsn = None,
    redis_url: RedisUrl = None,
    data: Data = None,
) -> None:
    """Remove a schedule; flows that it has started go on.

    Example: engine flows schedule remove 019b0000-0000-7000-8000-00000000000a
    """
    wanted = parse_flow(schedule)
    addresses = find_addresses(postgres_dsn, redis_url, data)
    if not with_client(addresses, lambda client: client.remove_schedule(wanted)):
        raise InputError(f"there is no schedule {uuid.UUID(bytes=wanted)}")
    out.print("removed")
