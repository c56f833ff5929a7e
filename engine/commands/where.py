"""`engine where`: where is my money, or my request?"""

from typing import Annotated, Any, Final

import typer

from engine.commands.addresses import Data, PostgresDsn, RedisUrl, find_addresses
from engine.commands.screen import Json, out, print_json, run_loop
from engine.operating.lives import Life
from engine.operating.phrases import describe_seconds, printable
from engine.operating.where import find
from engine.settings import stream_prefix

_LABEL: Final = 10
_SHOWN_MAX: Final = 20


def where(
    wanted: Annotated[
        str,
        typer.Argument(
            metavar="ID",
            help="Of a transfer, a hold or an account; or an entry of a stream, as "
            "3:1764286429000-0; or an account's name.",
        ),
    ],
    postgres_dsn: PostgresDsn = None,
    redis_url: RedisUrl = None,
    data: Data = None,
    json: Json = False,
) -> None:
    """Tell an id's whole life, or where it waits.

    What was asked, decided and posted.

    Exit 0 where it was found, 1 where nobody has seen it. A refusal that leaves its id
    free leaves no trace: such an id is unseen.

    Example: engine where 019b0000-0000-7000-8000-000000000042
    """
    addresses = find_addresses(postgres_dsn, redis_url, data)
    life = run_loop(find(*addresses, stream_prefix(), wanted))
    if json:
        print_json(life)
    else:
        print_life(life)
    raise typer.Exit(0 if life.is_seen else 1)


def print_life(life: Life) -> None:
    """Print a life for people: what it is, what became of it, how it came there."""
    style = {"created": "green", "posted": "green", "unseen": "yellow"}.get(life.state, "bold")
    out.print(
        f"{life.kind} {printable(life.id)}: {life.state.replace('_', ' ').upper()}", style=style
    )
    if life.outcome not in {None, "created"}:
        _line("declined", life.outcome)
    if life.why is not None:
        why = life.why
        amount = f"{why.available:,}" if why.exact else f"at most {why.available:,}"
        _line(
            "why",
            f"asked {why.asked:,} of {printable(why.account_name or 'account')} {why.account},",
        )
        _line("", f"which had {amount} then")
    _print_transfer(life)
    _print_hold(life)
    _print_way(life)
    _print_account(life)
    _print_postings(life)
    for transfer in (life.transfers or [])[:_SHOWN_MAX]:
        _line("transfer", f"{transfer['id']} {transfer['outcome'] or 'not decided, or id free'}")
    if len(life.transfers or []) > _SHOWN_MAX:
        _line("", f"and {len(life.transfers or []) - _SHOWN_MAX} more; --json has them")
    for letter in life.letters:
        _line("letter", f"{letter.letter} ({letter.state}): {printable(letter.reason)}")
        if letter.state == "open":
            _line("next", f"engine letters show {letter.letter}")
    for mention in life.mentions[:_SHOWN_MAX]:
        _line(
            "named", f"as {printable(mention.field)} in entry {mention.entry} of {mention.stream}"
        )
    if not life.is_seen:
        _line("", "neither the ledger, nor what waits, nor a dead letter has it; it was")
        _line("", "never sent, was refused with its id left free, or came to another Redis")
    for fault in life.faults:
        out.print(f"WRONG: {fault}", style="bold red")
        out.print("   DO: engine verify")
    for part in life.not_looked_at:
        out.print(f"Not looked at: {part}", style="yellow")


def _line(label: str, text: object) -> None:
    out.print(f"  {label:<{_LABEL}}{text}")


def _print_transfer(life: Life) -> None:
    transfer: dict[str, Any] = life.transfer or {}
    if not transfer:
        return
    flags = " ".join(transfer["flags"])
    _line(
        "amount", f"{transfer['amount']:,} in ledger {transfer['ledger']}, code {transfer['code']}"
    )
    _line("debit", transfer["debit_account_id"])
    _line("credit", transfer["credit_account_id"])
    if flags:
        _line("flags", flags)
    if transfer.get("pending_id"):
        _line("hold", transfer["pending_id"])
    if life.chain:
        _line("linked", f"with {len(life.chain) - 1} others: {', '.join(life.chain)}")


def _print_hold(life: Life) -> None:
    if life.hold is None:
        return
    hold = life.hold
    if hold["id"] != life.id:
        _line("", f"that hold is {hold['state']}")
        return
    if hold["expires_at"]:
        _line("expires", f"{_time(hold['expires_at'])}{', OVERDUE' if hold['is_overdue'] else ''}")
    if hold["resolved_by"]:
        _line("ended by", f"{hold['resolved_by']}")
    if hold["resolved_at"]:
        _line("ended", _time(hold["resolved_at"]))


def _print_way(life: Life) -> None:
    if life.entry is not None and life.entry_after is not None:
        _line("entry", f"after {life.entry_after}, up to {life.entry}")
        _line("", f"of {life.stream}")
    elif life.entry is not None:
        _line("entry", f"{life.entry} of {life.stream}")
    elif life.stream is not None:
        _line("stream", life.stream)
    if life.waiting_seconds is not None:
        _line("waits for", describe_seconds(life.waiting_seconds))
    if life.freeze is not None:
        freeze = life.freeze
        _line("frozen", f"{freeze['kind']} {freeze['what']}, since {_time(freeze['since'])}")
        _line("", f"by {printable(freeze['by'])}: {printable(freeze['reason'])}")
    if life.state == "waiting":
        _line("worker", life.worker or "NONE: no worker has the shard; see `engine doctor`")
    elif life.worker is not None:
        kind = f", {life.flush_kind}" if life.flush_kind not in {None, "flush"} else ""
        _line("decided", f"{_time(life.decided_at or '')} in flush {life.flush}{kind}")
        _line("by worker", f"{life.worker}")
        if life.host is not None:
            _line("", f"process {life.process} on {life.host}")


def _print_account(life: Life) -> None:
    if life.account is None:
        return
    account = life.account
    _line("name", printable(account["name"] or "-"))
    closed = ", CLOSED" if account["closed"] else ""
    _line("ledger", f"{account['ledger']}, code {account['code']}{closed}")
    if account["flags"]:
        _line("limit", " ".join(account["flags"]))
    _line("balance", f"{account['balance']:,} posted")
    held = account["debits_pending"], account["credits_pending"]
    if any(held):
        _line("held", f"{held[0]:,} to be debited, {held[1]:,} to be credited")


def _print_postings(life: Life) -> None:
    for posting in life.postings:
        whose = getattr(posting, "account_name", None) or getattr(posting, "account_id", None)
        whose = whose or getattr(posting, "transfer_id", "")
        held = f"{posting.pending_amount:+,} held" if posting.pending_amount else ""
        amount = f"{posting.amount:+,}" if posting.amount or not held else ""
        moved = ", ".join(part for part in (amount, held) if part)
        _line("posting", f"{_time(posting.posted_at)[:19]} {moved}  {printable(str(whose))}")


def _time(text: str) -> str:
    return text[:23].replace("T", " ")
