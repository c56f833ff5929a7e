"""`engine events`: what happened lately?"""

from typing import Annotated, Final

import typer

from engine.commands.addresses import Data, PostgresDsn, find_postgres
from engine.commands.screen import Json, out, print_json_lines, run_loop
from engine.errors import InputError
from engine.operating.durations import parse_seconds
from engine.operating.phrases import describe_seconds, describe_shards
from engine.store.inspection import Event, open_inspection

_STYLES: Final = {
    "worker_died": "bold red",
    "outage": "red",
    "session_ended": "yellow",
    "shards_taken_over": "yellow",
    "dead_letter": "yellow",
    "verify_failed": "bold red",
}


def events(
    since: Annotated[
        str, typer.Option("--since", metavar="AGO", help="From when on: 90s, 10m, 2h, 7d.")
    ] = "10m",
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most so many, the last.")] = 200,
    postgres_dsn: PostgresDsn = None,
    data: Data = None,
    json: Json = False,
) -> None:
    """Tell what happened lately.

    Deaths, takeovers, moves, outages, dead letters, who did what.

    The oldest comes first. Flushes that locked other workers, and chains that others
    wrote in, are counted by the minute, within the last 100,000 flushes.

    Example: engine events --since 10m
    """
    try:
        seconds = parse_seconds(since)
    except InputError as error:
        raise typer.BadParameter(str(error), param_hint="--since") from None
    found = run_loop(_events(find_postgres(postgres_dsn, data), seconds, limit))
    if json:
        print_json_lines(found)
        return
    for event in found:
        _print_event(event)
    if not found:
        out.print(f"Nothing happened within the last {describe_seconds(seconds)}.")
    if len(found) == limit:
        out.print(f"There may be more before: --limit {2 * limit}")


async def _events(postgres_dsn: str, seconds: int, limit: int) -> list[Event]:
    async with open_inspection(postgres_dsn) as inspection:
        return (await inspection.events(seconds, limit))[::-1]


def _print_event(event: Event) -> None:
    shards = f" shards {describe_shards(event.shards)}" if event.shards else ""
    lasted = "" if event.seconds is None else f" for {describe_seconds(event.seconds)}"
    time = event.time[:19].replace("T", " ")
    name = event.event.replace("_", " ")
    out.print(f"{time} {name}{shards}{lasted}", style=_STYLES.get(event.event))
    who = f", by {event.who}" if event.who else ""
    out.print(f"  {event.what}{who}")
