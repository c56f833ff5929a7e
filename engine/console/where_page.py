"""A whole life: of a transfer, a hold, an account, an entry."""

from typing import Any, Final

from engine.console.layout import facts, id_link, link, live, section, table, time, worker_name
from engine.console.markup import Child, Html, tag
from engine.operating.lives import Life
from engine.operating.phrases import describe_seconds
from engine.store.inspection import TransferPosting

TRANSFERS_MAX: Final = 100
"""Of an entry, as they are shown."""


def where_search(wanted: str = "") -> Html:
    """A form that asks for an id."""
    return tag(
        "form",
        tag("label", "Id of a transfer, hold or account; an entry, as 3:1764286429000-0; or a name",
            for_="id"),
        tag("input", id="id", name="id", value=wanted, required=True, autocomplete="off",
            spellcheck="false"),
        tag("button", "Find", type="submit"),
        action="/where",
        class_="ask",
    )  # fmt: skip


def life_content(life: Life) -> list[Child]:
    """The page below its heading."""
    return [
        where_search(life.id),
        live("life", *_told(life)),
    ]


def _told(life: Life) -> list[Child]:
    state = life.state.replace("_", " ")
    told: list[Child] = [
        tag(
            "p",
            f"{life.kind.capitalize()} ",
            tag("bdi", life.id, class_="id"),
            ": ",
            tag("strong", state, class_=f"state {life.state}", data_announce=True),
            class_="verdict",
        )
    ]
    if not life.is_seen:
        told.append(
            tag(
                "p",
                "Neither the ledger, nor what waits, nor a dead letter has it: it was never sent, "
                "was refused with its id left free, or came to another Redis.",
            )
        )
    told += [
        tag("p", tag("strong", "Wrong: "), tag("bdi", fault), ". Do: engine verify", class_="wrong")
        for fault in life.faults
    ]
    told += [_why(life), _transfer(life), _way(life), _account(life), _postings(life)]
    told += [_transfers(life), _letters(life), _mentions(life)]
    told += [tag("p", "Not looked at: ", tag("bdi", part)) for part in life.not_looked_at]
    return told


def _why(life: Life) -> Html | None:
    if life.outcome in {None, "created"}:
        return None
    why = life.why
    said: Child = None
    if why is not None:
        had = f"{why.available:,}" if why.exact else f"at most {why.available:,}"
        said = [f"it asked {why.asked:,} of ", id_link(why.account, why.account_name),
                f", which had {had} then"]  # fmt: skip
    return section("Why", facts(("Outcome", life.outcome), ("Because", said)))


def _transfer(life: Life) -> Html | None:
    transfer: dict[str, Any] | None = life.transfer
    if not transfer:
        return None
    hold: dict[str, Any] = life.hold or {}
    is_hold = hold.get("id") == life.id
    linked = [[id_link(other), " "] for other in life.chain or () if other != life.id]
    return section(
        "What was asked",
        facts(
            ("Amount", tag("strong", f"{transfer['amount']:,}", class_="amount")),
            ("Ledger", f"{transfer['ledger']}, code {transfer['code']}"),
            ("Debit", id_link(str(transfer["debit_account_id"]))),
            ("Credit", id_link(str(transfer["credit_account_id"]))),
            ("Flags", " ".join(transfer["flags"]) or None),
            ("Linked with", linked or None),
            ("Its hold", _hold_link(hold) if hold and not is_hold else None),
            ("Expires", _expiry(hold) if is_hold else None),
            ("Ended by", id_link(hold["resolved_by"]) if is_hold and hold["resolved_by"] else None),
            ("Ended", time(hold["resolved_at"]) if is_hold and hold["resolved_at"] else None),
        ),
    )  # fmt: skip


def _hold_link(hold: dict[str, Any]) -> Child:
    return [id_link(hold["id"]), f": {hold['state']}"]


def _freeze(freeze: dict[str, Any]) -> Child:
    what = f"{freeze['kind']} {freeze['what']}, since "
    by = [", by ", tag("bdi", freeze["by"]), ": ", tag("bdi", freeze["reason"])]
    return [what, time(freeze["since"]), *by]


def _expiry(hold: dict[str, Any]) -> Child:
    if not hold["expires_at"]:
        return None
    return [time(hold["expires_at"]), ", overdue" if hold["is_overdue"] else ""]


def _way(life: Life) -> Html | None:
    entry = life.entry
    if entry is not None and life.entry_after is not None:
        entry = f"after {life.entry_after}, up to {entry}"
    decided: Child = None
    if life.flush is not None:
        kind = f", {life.flush_kind}" if life.flush_kind not in {None, "flush"} else ""
        decided = [time(life.decided_at, digits=23), f" in flush {life.flush}{kind}"]
    worker: Child = None
    if life.worker is not None:
        where = f", process {life.process} on {life.host}" if life.host is not None else ""
        worker = [worker_name(life.worker), where]
    elif life.state == "waiting":
        worker = tag("strong", "none: no worker has the shard")
    if not any((entry, life.stream, decided, worker)):
        return None
    waits = None if life.waiting_seconds is None else describe_seconds(life.waiting_seconds)
    return section(
        "Its way",
        facts(
            ("Stream", tag("code", life.stream) if life.stream else None),
            ("Entry", tag("code", entry) if entry else None),
            ("Waits for", waits),
            ("Frozen", _freeze(life.freeze) if life.freeze else None),
            ("Worker", worker),
            ("Decided", decided),
            ("Posted", time(life.posted_at, digits=23) if life.posted_at else None),
        ),
    )  # fmt: skip


def _account(life: Life) -> Html | None:
    account = life.account
    if account is None:
        return None
    return section(
        "Account",
        facts(
            ("Name", tag("bdi", account["name"] or "-")),
            ("Balance posted", tag("strong", f"{account['balance']:,}", class_="amount")),
            ("History", link("all postings", "/accounts", account=str(account["id"]))),
        ),
    )


def _postings(life: Life) -> Html | None:
    if not life.postings:
        return None
    rows: list[list[Child]] = []
    for posting in life.postings:
        if isinstance(posting, TransferPosting):
            whose = link(tag("bdi", posting.account_name or posting.account_id), "/accounts",
                         account=posting.account_id)  # fmt: skip
        else:
            whose = id_link(posting.transfer_id)
        rows.append(
            [
                whose,
                time(posting.posted_at, digits=23),
                f"{posting.amount:+,}" if posting.amount else "-",
                f"{posting.pending_amount:+,}" if posting.pending_amount else "-",
            ]
        )
    first = "Account" if isinstance(life.postings[0], TransferPosting) else "Transfer"
    return section(
        "Postings",
        table(
            "A credit is positive; minor units",
            [first, "Posted at", "Amount", "Pending"],
            rows,
            numbers={"Amount", "Pending"},
            empty="None.",
        ),
    )


def _transfers(life: Life) -> Html | None:
    if not life.transfers:
        return None
    shown = life.transfers[:TRANSFERS_MAX]
    more = len(life.transfers) - len(shown)
    return section(
        "Transfers of the entry",
        table(
            "In their order",
            ["Transfer", "Outcome"],
            [[id_link(t["id"]), t["outcome"] or "not decided, or its id is free"] for t in shown],
            empty="None.",
        ),
        tag("p", f"and {more:,} more") if more else None,
    )


def _letters(life: Life) -> Html | None:
    if not life.letters:
        return None
    rows: list[list[Child]] = [
        [link(letter.letter, f"/letters/{letter.letter}"), letter.state, tag("bdi", letter.reason)]
        for letter in life.letters
    ]
    return section(
        "Dead letters",
        table("Those that contain it", ["Letter", "State", "Reason"], rows, empty="None."),
    )


def _mentions(life: Life) -> Html | None:
    if not life.mentions:
        return None
    rows: list[list[Child]] = [
        [tag("code", m.entry), tag("code", m.stream), tag("bdi", m.field)]
        for m in life.mentions[:TRANSFERS_MAX]
    ]
    return section(
        "Named by what waits",
        table("Entries that name it", ["Entry", "Stream", "As"], rows, empty="None."),
    )
