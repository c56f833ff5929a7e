"""Dead letters: which there are, and one of them with what can be done about it."""

from typing import Final

from engine.console.forms import first_step
from engine.console.layout import Frame, facts, field, link, live, section, table, time
from engine.console.markup import Child, Html, tag, verbatim
from engine.errors import InputError
from engine.operating.letters import find_letter, is_cut, payload_of, show_fields
from engine.store.letters import Letter, State, open_letters

LETTERS_MAX: Final = 200
VALUE_LETTERS_MAX: Final = 20_000
"""Of a field, as it is shown."""

_STATES: Final[dict[str, State | None]] = {
    "open": "open",
    "resent": "resent",
    "dismissed": "dismissed",
    "all": None,
}


async def letters_content(dsn: str, state: str) -> list[Child]:
    """The list below its heading.

    Raises:
        InputError: There is no such state.
    """
    if state not in _STATES:
        raise InputError(f"{state!r} is none of {', '.join(_STATES)}")
    async with open_letters(dsn) as letters:
        found = await letters.list(_STATES[state], LETTERS_MAX)
    links = [
        tag("li", tag("a", each, href=f"/letters?state={each}",
                      aria_current="true" if each == state else None))
        for each in _STATES
    ]  # fmt: skip
    shown = table(
        "Entries that nobody could read, the newest first",
        ["Letter", "Received", "State", "Reason"],
        [
            [
                link(letter.letter, f"/letters/{letter.letter}"),
                time(letter.received_at),
                letter.state,
                tag("bdi", letter.reason),
            ]
            for letter in found
        ],
        empty="No dead letters." if state == "all" else f"No dead letters are {state}.",
    )
    return [
        tag("nav", tag("ul", *links), aria_label="Which letters", class_="choices"),
        live("letters", shown),
        tag("p", f"There may be more: only {LETTERS_MAX} are shown.")
        if len(found) == LETTERS_MAX
        else None,
    ]


async def letter_content(frame: Frame, dsn: str, name: str) -> list[Child]:
    """A letter below its heading.

    Raises:
        InputError: There is none of that name.
    """
    async with open_letters(dsn) as letters:
        letter = await find_letter(letters, name)
    place = f"entry {letter.entry} of the stream of shard {letter.shard}"
    acted = None
    if letter.acted_by is not None:
        acted = [
            tag("bdi", letter.acted_by), " at ", time(letter.acted_at),
            f" as {letter.resent_as}" if letter.resent_as else "",
            [": ", tag("bdi", letter.act_reason)] if letter.act_reason else None,
        ]  # fmt: skip
    return [
        live(
            "letter",
            facts(
                ("State", tag("strong", letter.state)),
                ("Reason", tag("bdi", letter.reason)),
                ("Place", place),
                ("Received", time(letter.received_at)),
                (letter.state.capitalize(), acted),
            ),
        ),
        section("Its fields", *_fields(letter)),
        *_acts(frame, letter),
    ]


def _fields(letter: Letter) -> list[Child]:
    shown: list[Child] = []
    for found in show_fields(letter):
        form = "" if found.form == "text" else f", {found.form}"
        more = len(found.value) - VALUE_LETTERS_MAX
        shown += [
            tag("h3", tag("bdi", found.name), tag("small", f" {found.size:,} bytes{form}")),
            tag("pre", found.value[:VALUE_LETTERS_MAX], f" ... {more:,} more" if more > 0 else ""),
        ]
    return shown or [tag("p", "It has none.", class_="none")]


def _acts(frame: Frame, letter: Letter) -> list[Child]:
    acts: list[Child] = [section("Send it again repaired", _repair(frame, letter))]
    if not is_cut(letter):
        again = first_step(frame, "resend", "Send again as it was", letter=letter.letter)
        acts.append(section("Send it again", again))
    if letter.state == "open":
        reason = field("reason", "Why nothing is to be done", maxlength="1000")
        acts.append(
            section(
                "Dismiss it", first_step(frame, "dismiss", "Dismiss", reason, letter=letter.letter)
            )
        )
    return acts


def _repair(frame: Frame, letter: Letter) -> Html:
    try:
        payload = payload_of(letter).decode()
    except (InputError, UnicodeDecodeError):
        payload = ""
    return first_step(
        frame,
        "resend",
        "Send these",
        tag("label", "Its transfers, corrected: JSON or JSON lines", for_="repaired"),
        tag("textarea", "\n", verbatim(payload), id="repaired", name="repaired", rows=8,
            spellcheck="false", required=True),
        letter=letter.letter,
    )  # fmt: skip
