"""`engine balance` and `engine history`: what is on an account, and how it came there."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Final

import msgspec
import typer

from engine.commands.addresses import Data, PostgresDsn, find_postgres
from engine.commands.screen import LIMIT_MAX, Json, out, print_json_lines, print_table, run_loop
from engine.operating.account_names import find_accounts
from engine.operating.phrases import printable
from engine.store.reports import (
    TIME_MAX,
    AccountReport,
    BalanceReport,
    PostingReport,
    open_reports,
)

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def balance(
    accounts: Annotated[
        list[str], typer.Argument(metavar="ACCOUNT...", help="Ids or names of accounts.")
    ],
    postgres_dsn: PostgresDsn = None,
    data: Data = None,
    json: Json = False,
) -> None:
    """Show the balances of accounts, in minor units.

    Pending is what holds have reserved.

    Example: engine balance alice bakery
    """
    found = run_loop(_balances(find_postgres(postgres_dsn, data), accounts))
    if json:
        print_json_lines({**msgspec.structs.asdict(b), "balance": b.balance} for b in found)
        return
    print_balances(found)


async def _balances(postgres_dsn: str, wanted: list[str]) -> list[BalanceReport]:
    async with open_reports(postgres_dsn) as reports:
        found = await find_accounts(reports, wanted)
        return await reports.balances([account.id_bytes for account in found])


def print_balances(found: list[BalanceReport], title: str | None = None) -> None:
    """Print balances as a table, by name where accounts have one."""
    counters = ["debits_pending", "debits_posted", "credits_pending", "credits_posted"]
    print_table(
        ["account", "ledger", *(name.replace("_", " ") for name in counters), "balance", ""],
        [
            (
                b.name or b.account_id,
                str(b.ledger),
                *(getattr(b, name) for name in counters),
                b.balance,
                "closed" if b.closed else "",
            )
            for b in found
        ],
        title=title,
        numbers=["ledger", *(name.replace("_", " ") for name in counters), "balance"],
    )


def history(
    account: Annotated[str, typer.Argument(metavar="ACCOUNT", help="Its id or its name.")],
    limit: Annotated[
        int, typer.Option("--limit", min=1, max=LIMIT_MAX, help="At most so many.")
    ] = 20,
    before: Annotated[
        str | None,
        typer.Option(
            "--before", metavar="TIME", help="Posted before, as 2026-01-31T12:00:00Z (UTC)."
        ),
    ] = None,
    before_number: Annotated[
        int | None,
        typer.Option(
            "--before-number", min=0, max=2**63 - 1, help="Before the posting of this number."
        ),
    ] = None,
    postgres_dsn: PostgresDsn = None,
    data: Data = None,
    json: Json = False,
) -> None:
    """Show the last postings of an account, newest first.

    A credit is positive.

    Example: engine history alice --limit 5
    """
    until = TIME_MAX if before is None else _time(before)
    dsn = find_postgres(postgres_dsn, data)
    found, postings = run_loop(_history(dsn, account, limit, until, before_number))
    if json:
        print_json_lines(postings)
        return
    out.print(f"{printable(found.name or 'account')}  {found.id}  ledger {found.ledger}")
    print_postings(postings)
    if len(postings) == limit:
        out.print(f"There may be more: --limit, or --before-number {postings[-1].number}")


async def _history(
    postgres_dsn: str, wanted: str, limit: int, until: int, before_number: int | None
) -> tuple[AccountReport, list[PostingReport]]:
    async with open_reports(postgres_dsn) as reports:
        [account] = await find_accounts(reports, [wanted])
        return account, await reports.history(account.id_bytes, limit, until, before_number)


def print_postings(postings: list[PostingReport]) -> None:
    """Print an account's postings as a table."""
    print_table(
        ["posted at", "amount", "pending", "other account", "code", "transfer", "flags"],
        [
            (
                p.posted_at[:23].replace("T", " "),
                p.amount,
                p.pending_amount,
                p.other_name or p.other_account_id,
                str(p.code),
                p.transfer_id,
                " ".join(p.flags),
            )
            for p in postings
        ],
        numbers=["amount", "pending", "code"],
    )


def _time(text: str) -> int:
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r}: write --before as 2026-01-31T12:00:00Z") from None
    if time.tzinfo is None:
        time = time.replace(tzinfo=UTC)
    return (time - _EPOCH) // timedelta(microseconds=1)
