"""Stop buttons: what is frozen, and a form that freezes more."""

from engine.console.forms import first_step
from engine.console.layout import Frame, choice, field, id_link, live, section, table, time
from engine.console.markup import Child, Html, tag
from engine.ledger.freezes import FREEZE_KINDS
from engine.operating.freeze_acts import REASON_LETTERS_MAX
from engine.store.freezes import Frozen, read_frozen


async def freezes_content(frame: Frame, dsn: str, kind: str, what: str) -> list[Child]:
    """The page below its heading; `kind` and `what` are those that the form begins with."""
    frozen = await read_frozen(dsn)
    most = str(REASON_LETTERS_MAX)
    form = first_step(
        frame,
        "freeze",
        "Freeze",
        choice("kind", "What kind", [(each, each) for each in FREEZE_KINDS], kind),
        field("what", "Which", what, hint="An account's id or name, or a number."),
        choice("how", "What matches", [("wait", "waits, in order"), ("decline", "is declined")]),
        field("reason", "Why", maxlength=most, hint="It is kept."),
    )
    return [
        live("frozen", _frozen(frame, frozen)),
        section(
            "Freeze",
            tag("p", "Nothing that matches is created from then on, until it is thawed."),
            form,
        ),
    ]


def _frozen(frame: Frame, frozen: list[Frozen]) -> Html:
    return table(
        "What is frozen",
        ["What", "Since", "By", "Why", "What matches", ""],
        [
            [
                [f"{each.kind} ", id_link(each.what) if each.kind == "account" else each.what],
                time(each.since),
                tag("bdi", each.by),
                tag("bdi", each.reason),
                "is declined" if each.declines else f"waits: {each.transfers:,} transfers",
                _thaw(frame, each),
            ]
            for each in frozen
        ],
        empty="Nothing is frozen.",
    )


def _thaw(frame: Frame, frozen: Frozen) -> Html:
    reason = f"reason-{frozen.freeze_number}"
    return first_step(
        frame,
        "thaw",
        f"Thaw {frozen.kind} {frozen.what[:8]}",
        tag(
            "p",
            tag("label", "Why", for_=reason),
            tag("input", id=reason, name="reason", required=True, autocomplete="off",
                maxlength=REASON_LETTERS_MAX),
            class_="field",
        ),
        kind=frozen.kind,
        what=frozen.what,
    )  # fmt: skip
