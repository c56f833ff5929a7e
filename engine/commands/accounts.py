"""`engine accounts`: create, list, show."""

import json as json_module
from collections.abc import Mapping
from typing import Annotated, Any, Final

import msgspec
import typer

from engine.client import connect
from engine.client.inputs import parse_accounts
from engine.commands.addresses import (
    Data,
    PostgresDsn,
    RedisUrl,
    find_addresses,
    find_postgres,
)
from engine.commands.feed import feed
from engine.commands.screen import (
    LIMIT_MAX,
    Json,
    out,
    print_json,
    print_json_lines,
    print_table,
    run_loop,
)
from engine.commands.sources import File, Source
from engine.errors import InputError
from engine.ledger.nouns import NewAccount
from engine.operating.account_names import find_accounts
from engine.operating.phrases import printable
from engine.servers import Addresses
from engine.store.reports import AccountReport, BalanceReport, open_reports
from engine.wire.csv_rows import read_row

accounts_app = typer.Typer(
    name="accounts",
    help="Create accounts and look at them.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
)

_NUMBERS: Final = frozenset({"ledger", "code", "user_data_64", "user_data_32"})
COLUMNS: Final = _NUMBERS | {"id", "flags", "name", "user_data_128"}


@accounts_app.command()
def create(
    file: File,
    postgres_dsn: PostgresDsn = None,
    redis_url: RedisUrl = None,
    data: Data = None,
    json: Json = False,
) -> None:
    """Create accounts from a file.

    It ends with 0 when every line was decided, whatever the outcome.

    A line has id (a uuid of your choice), ledger (the currency) and code (the
    kind); it may have name, user_data_128, user_data_64, user_data_32 and one
    of the flags debits_must_not_exceed_credits, credits_must_not_exceed_debits.

    {"id": "019b0000-0000-7000-8000-000000000001", "ledger": 978, "code": 1}

    Or CSV, with a header: id,ledger,code,flags,name

    Example: engine accounts create accounts.jsonl
    """
    source = Source(file, _parse_json, _parse_row, COLUMNS)
    addresses = find_addresses(postgres_dsn, redis_url, data)
    run_loop(_create(addresses, source, json=json))


async def _create(addresses: Addresses, source: Source[NewAccount], *, json: bool) -> None:
    async with connect(*addresses) as client:
        await feed(source, client.create_accounts, nouns="accounts", json=json)


@accounts_app.command("list")
def list_(
    limit: Annotated[
        int, typer.Option("--limit", min=1, max=LIMIT_MAX, help="At most so many.")
    ] = 100,
    postgres_dsn: PostgresDsn = None,
    data: Data = None,
    json: Json = False,
) -> None:
    """List accounts in the order of their creation.

    Example: engine accounts list --limit 20
    """
    found = run_loop(_list(find_postgres(postgres_dsn, data), limit))
    if json:
        print_json_lines(found)
        return
    print_table(
        ["id", "name", "ledger", "code", "shard", "flags"],
        [(a.id, a.name, str(a.ledger), str(a.code), a.shard, " ".join(_marks(a))) for a in found],
        numbers=["ledger", "code", "shard"],
    )
    if len(found) == limit:
        out.print(f"There may be more: this is the first {limit} (--limit).")


async def _list(postgres_dsn: str, limit: int) -> list[AccountReport]:
    async with open_reports(postgres_dsn) as reports:
        return await reports.accounts(limit)


@accounts_app.command()
def show(
    account: Annotated[str, typer.Argument(metavar="ACCOUNT", help="Its id or its name.")],
    postgres_dsn: PostgresDsn = None,
    data: Data = None,
    json: Json = False,
) -> None:
    """Show an account and its balance.

    Example: engine accounts show alice
    """
    found, balance = run_loop(_show(find_postgres(postgres_dsn, data), account))
    document = {
        **msgspec.structs.asdict(found),
        **{name: getattr(balance, name) for name in _COUNTERS},
        "balance": balance.balance,
    }
    if json:
        print_json(document)
        return
    for name, value in document.items():
        text = printable(", ".join(value) if isinstance(value, list) else str(value))
        out.print(f"{name:>16}  {text if value is not None else ''}")


async def _show(postgres_dsn: str, wanted: str) -> tuple[AccountReport, BalanceReport]:
    async with open_reports(postgres_dsn) as reports:
        [account] = await find_accounts(reports, [wanted])
        [balance] = await reports.balances([account.id_bytes])
    return account, balance


_COUNTERS: Final = ("debits_pending", "debits_posted", "credits_pending", "credits_posted")


def _marks(account: AccountReport) -> list[str]:
    return [*account.flags, *(["closed"] if account.closed else [])]


def _parse_json(line: bytes) -> NewAccount:
    try:
        fields = msgspec.json.decode(line)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise InputError(f"no JSON: {error}") from None
    twice = _named_twice(line)
    if twice is not None:
        raise InputError(f"Object contains field `{twice}` twice - at `$`")
    if not isinstance(fields, dict):
        raise InputError('Expected an object, as {"id": ..., "ledger": ..., "code": ...}')
    return _parse(fields)


def _named_twice(line: bytes) -> str | None:
    """A field of an object that stands twice: its last value would count silently."""
    pairs = json_module.loads(line, object_pairs_hook=list)
    names = [pair[0] for pair in pairs if isinstance(pair, tuple)] if pairs else []
    return next((name for name in names if names.count(name) > 1), None)


def _parse_row(row: Mapping[str | None, str | None]) -> NewAccount:
    return _parse(read_row(row, COLUMNS, _NUMBERS))


def _parse(fields: dict[str, Any]) -> NewAccount:
    if "id" not in fields:
        raise InputError("Object missing required field `id`, a uuid that you choose")
    try:
        [account] = parse_accounts([fields])
    except InputError as error:
        raise InputError(str(error).replace("$[0]", "$")) from None
    return account
