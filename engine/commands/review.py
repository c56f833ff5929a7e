"""`engine review`: what flows ask people, and their answers."""

import uuid
from typing import Annotated, Any, Final, TypeAlias

import typer

from engine.commands.addresses import Data, PostgresDsn, RedisUrl, find_addresses
from engine.commands.flow_client import Timeout, parse_flow, plain, show_rows, with_client
from engine.commands.screen import Json, out, print_json, print_json_lines
from engine.flows.client import FlowClient
from engine.servers import Addresses

review_app = typer.Typer(name="review", help="What flows ask people.", no_args_is_help=True)

Ids: TypeAlias = Annotated[list[str], typer.Argument(metavar="ID...", help="Ids of flows.")]
Who: TypeAlias = Annotated[str, typer.Option("--by", metavar="WHO", help="Who decides.")]
Seq: TypeAlias = Annotated[
    int, typer.Option("--seq", metavar="N", help="Of the review, where several were open.")
]
Reason: TypeAlias = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Kept with it.")]

_HIDDEN: Final = {"seen"}


@review_app.command("list")
def list_reviews(
    postgres_dsn: PostgresDsn = None,
    redis_url: RedisUrl = None,
    data: Data = None,
    json: Json = False,
) -> None:
    """Reviews that are open, the oldest first.

    Example: engine review list
    """
    addresses = find_addresses(postgres_dsn, redis_url, data)
    rows = with_client(addresses, lambda client: client.reviews())
    found = [{k: v for k, v in row.items() if k not in _HIDDEN} for row in rows]
    if json:
        print_json([plain(row) for row in found])
    else:
        show_rows(found, json=False)


@review_app.command()
def decide(
    flow: Annotated[str, typer.Argument(metavar="ID", help="The flow's id.")],
    answer: Annotated[str, typer.Argument(metavar="ANSWER", help="One of its answers.")],
    by: Who,
    seq: Seq = 0,
    reason: Reason = "",
    timeout: Timeout = 30,
    postgres_dsn: PostgresDsn = None,
    redis_url: RedisUrl = None,
    data: Data = None,
    json: Json = False,
) -> None:
    """Answer a review; the first decision wins.

    Example: engine review decide 019b0000-0000-7000-8000-00000000000a settled --by ben
    """
    addresses = find_addresses(postgres_dsn, redis_url, data)
    _decide(addresses, [flow], answer, by, seq, reason, timeout, json=json)


@review_app.command()
def approve(
    flows: Ids,
    by: Who,
    seq: Seq = 0,
    reason: Reason = "",
    timeout: Timeout = 60,
    postgres_dsn: PostgresDsn = None,
    redis_url: RedisUrl = None,
    data: Data = None,
    json: Json = False,
) -> None:
    """Approve reviews, not those of flows that one has started.

    Example: engine review approve 019b0000-0000-7000-8000-00000000000a --by ben
    """
    addresses = find_addresses(postgres_dsn, redis_url, data)
    _decide(addresses, flows, "approved", by, seq, reason, timeout, json=json)


@review_app.command()
def refuse(
    flows: Ids,
    by: Who,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why.")],
    seq: Seq = 0,
    timeout: Timeout = 60,
    postgres_dsn: PostgresDsn = None,
    redis_url: RedisUrl = None,
    data: Data = None,
    json: Json = False,
) -> None:
    """Refuse reviews.

    Example: engine review refuse 019b0000-0000-7000-8000-00000000000a --by ben --reason "too much"
    """
    addresses = find_addresses(postgres_dsn, redis_url, data)
    _decide(addresses, flows, "refused", by, seq, reason, timeout, json=json)


def _decide(
    addresses: Addresses,
    flows: list[str],
    answer: str,
    by: str,
    seq: int,
    reason: str,
    timeout: float,
    *,
    json: bool,
) -> None:
    ids = [parse_flow(flow) for flow in flows]

    async def work(client: FlowClient) -> list[str]:
        # What is decided rests on what is known now: newer evidence is not overruled.
        rows = await client.reviews(ids[0] if len(ids) == 1 else None)
        open_ones = {row["id"]: row for row in rows}
        messages: list[dict[str, Any]] = []
        for flow, flow_id in zip(flows, ids, strict=True):
            review = open_ones.get(flow_id)
            body: dict[str, Any] = {"by": by, "reason": reason, "seq": seq}
            if review is not None:
                body |= {"seq": seq or review["seq"], "seen": review["seen"]}
            name, message_id = ":decide", uuid.uuid4().hex
            message = {"flow": flow, "name": name, "event": answer, "message_id": message_id}
            messages.append(message | {"body": body})
        return await client.signal(messages)

    outcomes = with_client(addresses, work, timeout)
    if json:
        found = zip(flows, outcomes, strict=True)
        print_json_lines({"id": flow, "outcome": outcome} for flow, outcome in found)
    else:
        for outcome in dict.fromkeys(outcomes):
            count = outcomes.count(outcome)
            out.print(outcome if len(outcomes) == 1 else f"{count:,} {outcome}")
    raise typer.Exit(0 if set(outcomes) == {"decided"} else 1)
