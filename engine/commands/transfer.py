"""`engine transfer`: one transfer, by hand."""

import shlex
import sys
from typing import Annotated, Any, Final

import typer

from engine.addresses import mask_options
from engine.client import connect
from engine.commands.addresses import Data, PostgresDsn, RedisUrl, find_addresses
from engine.commands.screen import Json, err, out, print_json, run_loop
from engine.errors import OutcomeUnknownError
from engine.ledger.nouns import AMOUNT_MAX, TransferFlags
from engine.ledger.outcomes import SPENDS_ID, Outcome
from engine.operating.account_names import find_accounts, new_id, parse_id
from engine.servers import Addresses
from engine.store.reports import open_reports
from engine.wire.fields import uuid_text

U32_MAX: Final = 2**32 - 1


def transfer(
    debit: Annotated[str | None, typer.Option(help="Account that pays, by id or name.")] = None,
    credit: Annotated[str | None, typer.Option(help="Account that gets, by id or name.")] = None,
    amount: Annotated[
        str | None, typer.Option(metavar="N", help="In the ledger's minor unit, or max.")
    ] = None,
    ledger: Annotated[
        int | None,
        typer.Option(min=0, max=U32_MAX, help="If not given, that of the debit account."),
    ] = None,
    code: Annotated[
        int | None,
        typer.Option(
            min=0, max=65535, help="The kind of transfer; of a post or void, that of its hold."
        ),
    ] = None,
    id_: Annotated[
        str | None, typer.Option("--id", metavar="UUID", help="If not given, a new one.")
    ] = None,
    pending: Annotated[bool, typer.Option("--pending", help="Hold the amount only.")] = False,
    timeout: Annotated[
        int | None,
        typer.Option(min=1, max=U32_MAX, metavar="SECONDS", help="When a hold lapses."),
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

    It ends with 0 when it was decided, whatever the outcome, and with 3 when it was
    sent and the outcome is not known: ask again with the same --id, which never pays
    twice.

    Example: engine transfer --debit alice --credit bakery --amount 2400 --code 1
    """
    if post and void:
        raise typer.BadParameter("a hold is captured or released: give --post or --void, not both")
    if not (post or void):
        _check_given({"--debit": debit, "--credit": credit, "--amount": amount, "--code": code})
    transfer_id = uuid_text(_uuid(id_, "--id") if id_ else new_id())
    fields: dict[str, Any] = {
        "id": transfer_id,
        "flags": _flags(flag or [], pending=pending, post=bool(post), void=bool(void)),
    }
    if amount is not None:
        fields["amount"] = _amount(amount)
    if post or void:
        fields["pending_id"] = uuid_text(_uuid(post or void or "", "--post" if post else "--void"))
    numbers = {"timeout": timeout, "ledger": ledger, "code": code}
    fields |= {name: value for name, value in numbers.items() if value is not None}
    sides = {"debit_account_id": debit, "credit_account_id": credit}
    addresses = find_addresses(postgres_dsn, redis_url, data)
    try:
        outcome = run_loop(_transfer(addresses, fields, sides))
    except OutcomeUnknownError as error:
        again = _command_again(transfer_id)
        if json:
            print_json({"id": transfer_id, "outcome": None, "error": str(error), "again": again})
        raise OutcomeUnknownError(
            f"transfer {transfer_id}: {error}. This asks again and never pays twice:\n  {again}"
        ) from error
    if json:
        print_json({"id": transfer_id, "outcome": outcome.name})
        return
    out.print(f"{outcome.name}  {transfer_id}", style=None if outcome else "green")
    if outcome in SPENDS_ID:
        out.print("The id is spent: to try again, give another.")


async def _transfer(
    addresses: Addresses, fields: dict[str, Any], sides: dict[str, str | None]
) -> Outcome:
    await _name_accounts(addresses.postgres_dsn, fields, sides)
    async with connect(*addresses) as client:
        # Whatever becomes of this command, who called it can ask for this id.
        err.print(f"Sending transfer {fields['id']}")
        return await client.create_transfer(fields)


def _command_again(transfer_id: str) -> str:
    """The command that asks what became of a transfer: the same with its id; no passwords."""
    words = ["engine", *sys.argv[1:]]
    if "--id" not in words and not any(word.startswith("--id=") for word in words):
        words += ["--id", transfer_id]
    return shlex.join(_without_password(word) for word in words)


def _without_password(word: str) -> str:
    """An address without its password, which shall not stand in a log."""
    scheme, slashes, rest = word.partition("://")
    credentials, at, host = rest.rpartition("@")
    user, colon, _ = credentials.partition(":")
    hidden = f"{scheme}://{user}:...@{host}" if slashes and at and colon else word
    return mask_options(hidden)


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


def _check_given(options: dict[str, object]) -> None:
    """Name the options that a transfer needs and that are not given."""
    missing = [name for name, value in options.items() if value in {None, ""}]
    if missing:
        raise typer.BadParameter(
            f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing: a transfer "
            "needs --debit, --credit, --amount and --code; one that ends a hold --post or --void"
        )


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
    if len(text) > len(str(AMOUNT_MAX)) or int(text) > AMOUNT_MAX:
        raise typer.BadParameter(f"--amount: {AMOUNT_MAX} is the most, or max for all of it")
    return int(text)
