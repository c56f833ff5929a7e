"""What is said to a flow that is under way: `cancel`, `resume`, `resolve`, `signal`."""

import uuid
from typing import Annotated, Any

import msgspec
import typer

from engine.commands.addresses import Data, PostgresDsn, RedisUrl, find_addresses
from engine.commands.flow_client import (
    By,
    Id,
    Timeout,
    end_with,
    parse_flow,
    read_lines,
    with_client,
)
from engine.commands.screen import Json, out, print_json_lines
from engine.errors import InputError
from engine.servers import Addresses


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
        lines = read_lines("-")
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
