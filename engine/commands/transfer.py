"""`engine transfer`: one transfer, by hand."""

from typing import Annotated, Any

import typer

from engine.client import connect
from engine.commands.addresses import Data, PostgresDsn, RedisUrl, find_addresses
from engine.commands.naming import find_accounts, new_id, parse_id
from engine.commands.screen import Json, out, print_json, run_loop
from engine.ledger.nouns import TransferFlags
from engine.ledger.outcomes import SPENDS_ID, Outcome
from engine.servers import Addresses
from engine.store.reports import open_reports
from engine.wire.fields import uuid_text


def transfer(
    debit: Annotated[str | None, typer.Option(help="Account that pays, by id or name.")] = None,
    credit: Annotated[str | None, typer.Option(help="Account that gets, by id or name.")] = None,
    amount: Annotated[
        str | None, typer.Option(metavar="N", help="In the ledger's minor unit, or max.")
    ] = None,
    ledger: Annotated[
        int | None, typer.Option(min=0, help="If not given, that of the debit account.")
    ] = None,
    code: Annotated[int, typer.Option(min=0, max=65535, help="The kind of transfer.")] = 0,
    id_: Annotated[
        str | None, typer.Option("--id", metavar="UUID", help="If not given, a new one.")
    ] = None,
    pending: Annotated[bool, typer.Option("--pending", help="Hold the amount only.")] = False,
    timeout: Annotated[
        int | None, typer.Option(min=1, metavar="SECONDS", help="When a hold lapses.")
    ] = None,
    post: Annotated[
        str | None, typer.Option(metavar="ID", help="Capture this hold: all, or --amount of it.")
    ] = None,
    void: Annotated[str | None, typer.Option(metavar="ID", help="Release this hold.")] = None,
    flag: Annotated[
        list[str] | None, typer.Option(help="Another flag, as balancing_debit; repeatable.")
    ] = None,
    postgres_dsn: PostgresDsn = None,
    redis_url: RedisUrl = None,
    data: Data = None,
    json: Json = False,
) -> None:
    """Make one transfer and print its outcome.

    It ends with 0 when it was decided, whatever the outcome.

    Example: engine transfer --debit alice --credit bakery --amount 2400 --code 1
    """
    if post and void:
        raise typer.BadParameter("a hold is captured or released: give --post or --void, not both")
    if not (post or void) and not (debit and credit and amount and code):
        raise typer.BadParameter("give --debit, --credit, --amount and --code")
    fields: dict[str, Any] = {
        "id": uuid_text(_uuid(id_, "--id") if id_ else new_id()),
        "code": code,
        "flags": _flags(flag or [], pending=pending, post=bool(post), void=bool(void)),
    }
    if amount is not None:
        fields["amount"] = _amount(amount)
    if post or void:
        fields["pending_id"] = uuid_text(_uuid(post or void or "", "--post and --void"))
    if timeout is not None:
        fields["timeout"] = timeout
    if ledger is not None:
        fields["ledger"] = ledger
    sides = {"debit_account_id": debit, "credit_account_id": credit}
    addresses = find_addresses(postgres_dsn, redis_url, data)
    outcome = run_loop(_transfer(addresses, fields, sides))
    if json:
        print_json({"id": fields["id"], "outcome": outcome.name})
        return
    out.print(f"{outcome.name}  {fields['id']}", style=None if outcome else "green")
    if outcome in SPENDS_ID:
        out.print("The id is spent: to try again, give another.")


async def _transfer(
    addresses: Addresses, fields: dict[str, Any], sides: dict[str, str | None]
) -> Outcome:
    await _name_accounts(addresses.postgres_dsn, fields, sides)
    async with connect(*addresses) as client:
        return await client.create_transfer(fields)


async def _name_accounts(
    postgres_dsn: str, fields: dict[str, Any], sides: dict[str, str | None]
) -> None:
    """Fill in the ids of accounts given by name, and the ledger where it was not given."""
    given = {side: text for side, text in sides.items() if text is not None}
    if not given:
        return
    if "ledger" in fields and all(parse_id(text) for text in given.values()):
        fields.update(given)
        return
    async with open_reports(postgres_dsn) as reports:
        found = await find_accounts(reports, list(given.values()))
    for side, account in zip(given, found, strict=True):
        fields[side] = account.id
    fields.setdefault("ledger", found[0].ledger)


def _flags(names: list[str], *, pending: bool, post: bool, void: bool) -> list[str]:
    known = [flag.name for flag in TransferFlags if flag is not TransferFlags.linked]
    for name in names:
        if name not in known:
            raise typer.BadParameter(f"--flag {name}: there is {', '.join(map(str, known))}")
    if pending:
        names.append("pending")
    if post:
        names.append("post_pending_transfer")
    if void:
        names.append("void_pending_transfer")
    return names


def _uuid(text: str, option: str) -> bytes:
    value = parse_id(text)
    if value is None:
        raise typer.BadParameter(f"{text!r} of {option} is no uuid, written 8-4-4-4-12")
    return value


def _amount(text: str) -> int | str:
    if text == "max":
        return text
    if not (text.isascii() and text.isdigit()):
        raise typer.BadParameter(f"--amount {text}: give a whole number of minor units, or max")
    return int(text)
