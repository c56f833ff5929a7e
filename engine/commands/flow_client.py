"""What the commands of flows share: a client, what is read in, how it is shown."""

import sys
import uuid
from collections.abc import Callable, Coroutine, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Final, TypeAlias

import msgspec
import typer

from engine.commands.screen import out, print_json_lines, print_table, run_loop
from engine.errors import InputError
from engine.flows.client import FlowClient, connect_flows
from engine.flows.store import uuid_bytes
from engine.servers import Addresses
from engine.settings import stream_prefix

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

Id: TypeAlias = Annotated[str, typer.Argument(metavar="ID", help="The flow's id.")]
By: TypeAlias = Annotated[str, typer.Option("--by", metavar="WHO", help="In whose name.")]
Timeout: TypeAlias = Annotated[float, typer.Option("--timeout", help="Seconds to wait at most.")]


def with_client(
    addresses: Addresses,
    work: Callable[[FlowClient], Coroutine[Any, Any, Any]],
    timeout: float = 30,
) -> Any:
    """Run something with a client of flows."""

    async def run() -> Any:
        async with connect_flows(
            *addresses, prefix=stream_prefix(), timeout_seconds=timeout
        ) as client:
            return await work(client)

    return run_loop(run())


def parse_flow(text: str) -> bytes:
    """A flow's id. Raises BadParameter where it is none."""
    found = uuid_bytes(text)
    if found is None:
        raise typer.BadParameter(f"{text!r} is no uuid")
    return found


def plain(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row as JSON has it: ids and times as text."""
    return {name: _plain(name, value) for name, value in row.items()}


def _plain(name: str, value: Any) -> Any:
    if isinstance(value, bytes):
        return str(uuid.UUID(bytes=value)) if len(value) == 16 else value.hex()
    if isinstance(value, int) and (name == "at" or name.endswith(("_at", "_ended"))):
        return (EPOCH + timedelta(microseconds=value)).isoformat().replace("+00:00", "Z")
    return value


def show_rows(rows: list[dict[str, Any]], *, json: bool) -> None:
    """Print rows: a line of JSON for each, or a table."""
    found = [plain(row) for row in rows]
    if json:
        print_json_lines(found)
    elif found:
        print_table(list(found[0]), [list(row.values()) for row in found])


def end_with(outcome: str, good: set[str]) -> None:
    """Print an outcome, and exit by whether it is good."""
    out.print(outcome)
    raise typer.Exit(0 if outcome in good else 1)


def read_lines(file: str) -> list[dict[str, Any]]:
    """The objects of a file of JSON lines; - for standard input. Raises InputError."""
    text = sys.stdin.buffer.read() if file == "-" else _bytes_of(file)
    items = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            try:
                items.append(msgspec.json.decode(line, type=dict[str, Any]))
            except msgspec.MsgspecError as error:
                raise InputError(f"{file}:{number}: {error}; nothing was sent") from None
    return items


def _bytes_of(file: str) -> bytes:
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error}") from error
