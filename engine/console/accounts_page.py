"""Accounts: a list, and the balances and history of one."""

from typing import Final

from engine.console.layout import address, facts, id_link, link, live, section, table, time
from engine.console.markup import Child, Html, tag
from engine.operating.account_names import find_accounts
from engine.store.reports import TIME_MAX, AccountReport, BalanceReport, PostingReport, open_reports

ACCOUNTS_MAX: Final = 100
POSTINGS_MAX: Final = 50


def account_search(wanted: str = "") -> Html:
    """A form that asks for an account."""
    return tag(
        "form",
        tag("label", "Account, by its id or name", for_="account"),
        tag("input", id="account", name="account", value=wanted, required=True, autocomplete="off",
            spellcheck="false"),
        tag("button", "Show", type="submit"),
        action="/accounts",
        class_="ask",
    )  # fmt: skip


async def accounts_content(dsn: str) -> list[Child]:
    """The first accounts, below the heading."""
    async with open_reports(dsn) as reports:
        found = await reports.accounts(ACCOUNTS_MAX)
    listed = table(
        f"Accounts in the order of their creation, at most {ACCOUNTS_MAX}",
        ["Account", "Name", "Ledger", "Code", "Limit", "Created"],
        [
            [
                link(tag("code", account.id), "/accounts", account=account.id),
                tag("bdi", account.name or "-"),
                f"{account.ledger}",
                f"{account.code}",
                _limit(account.flags),
                time(account.created_at),
            ]
            for account in found
        ],
        numbers={"Ledger", "Code"},
        empty="There are no accounts. Create some: engine accounts create FILE",
    )
    return [account_search(), listed]


async def account_content(dsn: str, wanted: str, before_number: int | None) -> list[Child]:
    """An account below its heading.

    Raises:
        InputError: There is no such account, or no such posting.
    """
    async with open_reports(dsn) as reports:
        [account] = await find_accounts(reports, [wanted])
        [balance] = await reports.balances([account.id_bytes])
        postings = await reports.history(account.id_bytes, POSTINGS_MAX, TIME_MAX, before_number)
    older = None
    if len(postings) == POSTINGS_MAX:
        number = str(postings[-1].number)
        older = tag("a", "Older", href=address("/accounts", account=account.id, before=number),
                    rel="next")  # fmt: skip
    shown = _history(postings)
    return [
        account_search(wanted),
        live("balance", _account(account, balance)),
        section(
            "History",
            shown if before_number is not None else live("history", shown),
            tag("nav", older, aria_label="More of its history") if older else None,
        ),
        section(
            "Stop button",
            tag("p", link("Freeze this account", "/freezes", kind="account", what=account.id)),
        ),
    ]


def _limit(flags: list[str]) -> str:
    return ", ".join(flag.replace("_", " ") for flag in flags) or "-"


def _account(account: AccountReport, balance: BalanceReport) -> Html:
    return facts(
        ("Id", id_link(account.id)),
        ("Name", tag("bdi", account.name or "-")),
        ("Balance posted", tag("strong", f"{balance.balance:,}", class_="amount")),
        ("Debits", f"{balance.debits_posted:,} posted, {balance.debits_pending:,} pending"),
        ("Credits", f"{balance.credits_posted:,} posted, {balance.credits_pending:,} pending"),
        ("Ledger", f"{account.ledger}, code {account.code}"),
        ("Limit", _limit(account.flags)),
        ("Shard", f"{account.shard}"),
        ("Created", time(account.created_at)),
        ("Closed", tag("strong", "yes") if balance.closed else None),
    )


def _history(postings: list[PostingReport]) -> Html:
    return table(
        "Its postings, the newest first; a credit is positive; minor units",
        ["Transfer", "Posted at", "Amount", "Pending", "Other account", "Code", "Flags"],
        [
            [
                id_link(posting.transfer_id),
                time(posting.posted_at, digits=23),
                f"{posting.amount:+,}" if posting.amount else "-",
                f"{posting.pending_amount:+,}" if posting.pending_amount else "-",
                link(
                    tag("bdi", posting.other_name or posting.other_account_id),
                    "/accounts",
                    account=posting.other_account_id,
                ),
                f"{posting.code}",
                " ".join(posting.flags) or "-",
            ]
            for posting in postings
        ],
        numbers={"Amount", "Pending", "Code"},
        empty="Nothing was posted to it.",
    )
