"""`engine flows`: define, start and watch flows, and see to those that are stuck."""

import runpy
import sys
import uuid
from collections.abc import Callable, Coroutine, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Final, TypeAlias

import msgspec
import typer

from engine.commands.addresses import Data, PostgresDsn, RedisUrl, find_addresses
from engine.commands.crew import run_until_signal
from engine.commands.logs import LogLevel, configure_logs
from engine.commands.screen import Json, out, print_json_lines, print_table, run_busy_loop, run_loop
from engine.errors import EngineError, InputError
from engine.flows.calls import Function
from engine.flows.charts import as_mermaid, as_text
from engine.flows.client import FlowClient, connect_flows
from engine.flows.definition import Flow
from engine.flows.inputs import microseconds_of
from engine.flows.store import FlowStore, uuid_bytes
from engine.flows.streams import FlowStreams
from engine.flows.worker import FlowWorker
from engine.servers import Addresses
from engine.settings import stream_prefix

LINES_MAX: Final = 8000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

flows_app = typer.Typer(name="flows", help="Money movement in several steps.", no_args_is_help=True)

Id: TypeAlias = Annotated[str, typer.Argument(metavar="ID", help="The flow's id.")]
By: TypeAlias = Annotated[str, typer.Option("--by", metavar="WHO", help="In whose name.")]
Timeout: TypeAlias = Annotated[float, typer.Option("--timeout", help="Seconds to wait at most.")]
FlowsFile: TypeAlias = Annotated[
    Path, typer.Argument(metavar="FILE.py", exists=True, dir_okay=False, help="Definitions.")
]
CodeFile: TypeAlias = Annotated[
    Path | None,
    typer.Option("--flows", metavar="FILE.py", exists=True, help="Definitions with their code."),
]


def load_flows(path: Path) -> list[Flow]:
    """The flows that a file of Python defines.

    Raises:
        InputError: When it defines none, or cannot be run.
    """
    sys.path.insert(0, str(path.resolve().parent))
    try:
        names = runpy.run_path(str(path))
    except EngineError:
        raise
    except Exception as error:
        raise InputError(f"{path}: {type(error).__name__}: {error}") from error
    found = {id(value): value for value in names.values() if isinstance(value, Flow)}
    if not found:
        raise InputError(f"{path} defines no flow: make one with engine.flows.Flow(...)")
    return list(found.values())


def functions_of(path: Path | None) -> dict[str, Function]:
    """The functions that the calls of a file's flows call."""
    functions: dict[str, Function] = {}
    for flow in load_flows(path) if path is not None else ():
        functions |= flow.functions
    return functions


def make_worker(addresses: Addresses, functions: Mapping[str, Function]) -> FlowWorker:
    """A flow worker, not yet running."""
    worker = uuid.uuid4().bytes
    streams = FlowStreams(addresses.redis_url, stream_prefix(), f"flows-{worker.hex()}")
    return FlowWorker(FlowStore(addresses.postgres_dsn, worker), streams, 0, functions)


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
        return (_EPOCH + timedelta(microseconds=value)).isoformat().replace("+00:00", "Z")
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
    items = _read_lines(file)

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


def _read_lines(file: str) -> list[dict[str, Any]]:
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


def _time(text: str) -> int:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r}: write a time as 2026-01-31T12:00:00Z") from None
    if found.tzinfo is None:
        raise typer.BadParameter(f"{text!r} has no time zone: write Z for UTC")
    return (found - _EPOCH) // timedelta(microseconds=1)


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


def ask_flow(
    addresses: Addresses, flow: str, what: str, event: str, timeout: float, **body: Any
) -> str:
    """Ask something of a flow, by the stream of its shard."""
    parse_flow(flow)
    written = {
        "flow": flow,
        "name": f":{what}",
        "event": event,
        "message_id": uuid.uuid4().hex,
        "body": body,
    }
    outcomes: list[str] = with_client(addresses, lambda client: client.signal([written]), timeout)
    return outcomes[0]


@flows_app.command()
def cancel(
    flow: Id,
    by: By = "",
    timeout: Timeout = 30,
    postgres_dsn: PostgresDsn = None,
    redis_url: RedisUrl = None,
    data: Data = None,
) -> None:
    """End a flow that has not reached the outside yet.

    Example: engine flows cancel 019b0000-0000-7000-8000-00000000000a
    """
    addresses = find_addresses(postgres_dsn, redis_url, data)
    end_with(
        ask_flow(addresses, flow, "cancel", "", timeout, by=by), {"cancelled", "too_late", "ended"}
    )


@flows_app.command()
def resume(
    flow: Id,
    by: By = "",
    timeout: Timeout = 30,
    postgres_dsn: PostgresDsn = None,
    redis_url: RedisUrl = None,
    data: Data = None,
) -> None:
    """Let a stopped flow go on, once what stopped it has been seen to.

    Example: engine flows resume 019b0000-0000-7000-8000-00000000000a --by ann
    """
    addresses = find_addresses(postgres_dsn, redis_url, data)
    end_with(ask_flow(addresses, flow, "resume", "", timeout, by=by), {"resumed"})


@flows_app.command()
def resolve(
    flow: Id,
    event: Annotated[str, typer.Argument(metavar="EVENT", help="What came of the step.")],
    by: Annotated[str, typer.Option("--by", metavar="WHO", help="Who says so.")],
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="How they know.")],
    timeout: Timeout = 30,
    postgres_dsn: PostgresDsn = None,
    redis_url: RedisUrl = None,
    data: Data = None,
) -> None:
    """Say what came of the step where a flow is; not for money, which the ledger knows.

    Example: engine flows resolve 019b0000-0000-7000-8000-00000000000a done --by ann --reason called
    """
    addresses = find_addresses(postgres_dsn, redis_url, data)
    outcome = ask_flow(addresses, flow, "resolve", event, timeout, by=by, reason=reason)
    end_with(outcome, {"resolved"})


@flows_app.command()
def signal(
    flow: Annotated[str, typer.Argument(metavar="ID", help="The flow's id; - for JSON lines.")],
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="Of the signal.")] = None,
    event: Annotated[str | None, typer.Argument(metavar="EVENT", help="What it says.")] = None,
    message_id: Annotated[
        str | None, typer.Option("--message-id", metavar="M", help="The sender's own, said once.")
    ] = None,
    body: Annotated[
        str | None, typer.Option("--body", metavar="JSON", help="Kept with it.")
    ] = None,
    timeout: Timeout = 30,
    postgres_dsn: PostgresDsn = None,
    redis_url: RedisUrl = None,
    data: Data = None,
    json: Json = False,
) -> None:
    """Tell a flow what became of something outside; kept also before it waits for it.

    Lines have flow, name, event, message_id and body.

    Example: engine flows signal 019b0000-0000-7000-8000-00000000000a bank settled
    """
    if flow == "-":
        lines = _read_lines("-")
        for number, line in enumerate(lines, 1):
            if "id" in line:
                line["flow"] = line.pop("id")
            if not {"flow", "name", "event", "message_id"} <= set(line):
                raise InputError(f"line {number}: Expected flow, name, event and message_id")
        signals = lines
    else:
        parse_flow(flow)
        if name is None or event is None:
            raise typer.BadParameter("give ID, NAME and EVENT, or - for lines")
        made = {"flow": flow, "name": name, "event": event}
        signals = [made | {"message_id": message_id or uuid.uuid4().hex}]
        if body is not None:
            try:
                signals[0]["body"] = msgspec.json.decode(body)
            except msgspec.MsgspecError as error:
                raise typer.BadParameter(f"--body: {error}") from None
    addresses = find_addresses(postgres_dsn, redis_url, data)
    outcomes = with_client(addresses, lambda client: client.signal(signals), timeout)
    answers = [
        {"id": s["flow"], "message_id": s["message_id"], "outcome": outcome}
        for s, outcome in zip(signals, outcomes, strict=True)
    ]
    if json or flow == "-":
        print_json_lines(answers)
    else:
        out.print(f"{answers[0]['outcome']} (message id {answers[0]['message_id']})")
    if flow != "-" and outcomes[0] == "flow_not_found":
        raise typer.Exit(1)


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
    run_busy_loop(run_until_signal(made.run, made.stop))
