"""`engine letters`: requests that nobody could read, and what to do about them."""

import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Annotated, Any, Final, TypeAlias

import msgspec
import typer

from engine.commands.addresses import (
    Data,
    PostgresDsn,
    RedisUrl,
    find_addresses,
    find_postgres,
)
from engine.commands.screen import Json, out, print_json, print_json_lines, run_loop
from engine.operating.letters import (
    dismiss_letter,
    find_letter,
    payload_of,
    resend_letter,
    show_fields,
    who_acts,
)
from engine.servers import Addresses
from engine.settings import stream_prefix
from engine.store.letters import Letter, State, open_letters
from engine.streams.inspection import StreamsInspection

VALUE_CHARACTERS_MAX: Final = 2000
"""Of a field, as a person is shown it; --json and --payload have all."""

Name: TypeAlias = Annotated[
    str, typer.Argument(metavar="LETTER", help="As `engine letters list` names it.")
]
By: TypeAlias = Annotated[
    str | None, typer.Option("--by", help="Who does it; else the user at this machine.")
]

letters_app = typer.Typer(
    name="letters",
    help="Dead letters: show, repair, resend, dismiss.",
    epilog="Start with `engine letters list`.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)


@letters_app.command("list")
def list_letters(
    state: Annotated[
        str, typer.Option("--state", help="Only those: open, resent, dismissed, or all.")
    ] = "all",
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most so many.")] = 100,
    postgres_dsn: PostgresDsn = None,
    data: Data = None,
    json: Json = False,
) -> None:
    """List dead letters, the newest first, with what was done about each.

    Example: engine letters list --state open
    """
    states: dict[str, State | None] = {
        "open": "open",
        "resent": "resent",
        "dismissed": "dismissed",
        "all": None,
    }
    if state not in states:
        raise typer.BadParameter(f"{state!r} is none of {', '.join(states)}", param_hint="--state")

    async def ask(dsn: str) -> list[Any]:
        async with open_letters(dsn) as letters:
            return list(await letters.list(states[state], limit))

    found = run_loop(ask(find_postgres(postgres_dsn, data)))
    if json:
        print_json_lines(found)
        return
    for letter in found:
        time = letter.received_at[:19].replace("T", " ")
        out.print(f"{letter.letter}  {time}  {letter.state}")
        out.print(f"  {letter.reason}")
    if not found:
        out.print("No dead letters." if state == "all" else f"No dead letters are {state}.")
    elif len(found) == limit:
        out.print(f"There may be more: --limit {2 * limit}")


@letters_app.command()
def show(
    letter: Name,
    payload: Annotated[
        bool, typer.Option("--payload", help="Print its transfers alone, to correct them.")
    ] = False,
    postgres_dsn: PostgresDsn = None,
    data: Data = None,
    json: Json = False,
) -> None:
    """Show a dead letter as text, with the reason and its place.

    Example: engine letters show 0:0:1764286429000-0 --payload > fixed.json
    """
    found = run_loop(_find(find_postgres(postgres_dsn, data), letter))
    if payload:
        sys.stdout.buffer.write(payload_of(found))
        sys.stdout.buffer.flush()
        return
    fields = show_fields(found)
    if json:
        document = msgspec.structs.asdict(found)
        print_json(document | {"fields": fields})
        return
    out.print(f"letter    {found.letter}: {found.state.upper()}", style="bold")
    out.print(f"reason    {found.reason}", style="red")
    out.print(f"place     entry {found.entry} of the stream of shard {found.shard}")
    out.print(f"received  {found.received_at[:23].replace('T', ' ')}")
    if found.acted_by:
        entry = f" as {found.resent_as}" if found.resent_as else ""
        why = f": {found.act_reason}" if found.act_reason else ""
        out.print(f"{found.state:<9} {found.acted_at}{entry}, by {found.acted_by}{why}")
    for field in fields:
        more = len(field.value) - VALUE_CHARACTERS_MAX
        form = "" if field.form == "text" else f", {field.form}"
        out.print(f"\n{field.name} ({field.size:,} bytes{form})", style="bold")
        out.print(field.value[:VALUE_CHARACTERS_MAX] + (f" ... {more:,} more" if more > 0 else ""))
    if found.state == "open":
        out.print(f"\nNEXT: engine letters show {found.letter} --payload > fixed.json")
        out.print(f"      engine letters resend {found.letter} fixed.json")
        out.print(f"  or: engine letters dismiss {found.letter} --reason TEXT")


@letters_app.command()
def resend(
    letter: Name,
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="[FILE]", help="Its transfers, corrected: JSON or JSON lines; - for input."
        ),
    ] = None,
    by: By = None,
    again: Annotated[
        bool, typer.Option("--again", help="Though it was resent: its ids make that harmless.")
    ] = False,
    postgres_dsn: PostgresDsn = None,
    redis_url: RedisUrl = None,
    data: Data = None,
    json: Json = False,
) -> None:
    """Send a dead letter again, as it was or repaired from a file.

    What would be a dead letter again is not sent.

    Example: engine letters resend 0:0:1764286429000-0 fixed.json
    """
    repaired = None
    if file is not None:
        try:
            repaired = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
        except OSError as error:
            raise typer.BadParameter(f"{file} cannot be read: {error.strerror}") from None
    addresses = find_addresses(postgres_dsn, redis_url, data)
    entry = run_loop(_resend(addresses, letter, repaired, by or who_acts(), again=again))
    if json:
        print_json({"letter": letter, "state": "resent", "entry": entry})
    else:
        out.print(f"{letter} is resent as entry {entry}", style="green")


@letters_app.command()
def dismiss(
    letter: Name,
    reason: Annotated[str, typer.Option("--reason", help="Why nothing is to be done.")],
    by: By = None,
    postgres_dsn: PostgresDsn = None,
    data: Data = None,
    json: Json = False,
) -> None:
    """Say that nothing is to be done about a dead letter; it is kept, with the reason.

    Example: engine letters dismiss 0:0:1764286429000-0 --reason "a test"
    """

    async def act(dsn: str) -> None:
        async with open_letters(dsn) as letters:
            found = await find_letter(letters, letter)
            await dismiss_letter(letters, found, by or who_acts(), reason)

    run_loop(act(find_postgres(postgres_dsn, data)))
    if json:
        print_json({"letter": letter, "state": "dismissed"})
    else:
        out.print(f"{letter} is dismissed", style="green")


async def _find(dsn: str, name: str) -> Letter:
    async with open_letters(dsn) as letters:
        return await find_letter(letters, name)


async def _resend(
    addresses: Addresses, name: str, repaired: bytes | None, by: str, *, again: bool
) -> str:
    async with AsyncExitStack() as stack:
        letters = await stack.enter_async_context(open_letters(addresses.postgres_dsn))
        letter = await find_letter(letters, name)
        streams = StreamsInspection(addresses.redis_url, stream_prefix())
        stack.push_async_callback(streams.close)
        await streams.open()
        return await resend_letter(letters, streams, letter, repaired, by, again=again)
