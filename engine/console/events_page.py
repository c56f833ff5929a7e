"""What happened."""

import re
from collections.abc import Sequence
from typing import Final

import msgspec

from engine.console.layout import link, live, table, time
from engine.console.markup import Child, Html, tag
from engine.operating.durations import parse_seconds
from engine.operating.phrases import describe_seconds, describe_shards
from engine.store.inspection import Event, open_inspection

SINCE: Final = ("10m", "1h", "12h", "7d")
EVENTS_MAX: Final = 200

_UUID: Final = re.compile(r"\b([0-9a-f]{8})-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b")


async def events_content(dsn: str, since: str) -> list[Child]:
    """The page below its heading.

    Raises:
        InputError: `since` is no duration.
    """
    seconds = parse_seconds(since)
    async with open_inspection(dsn) as inspection:
        found = await inspection.events(seconds, EVENTS_MAX)
    links = [
        tag("li", tag("a", f"last {each}", href=f"/events?since={each}",
                      aria_current="true" if each == since else None))
        for each in SINCE
    ]  # fmt: skip
    caption = f"The last {describe_seconds(seconds)}, the newest first"
    return [
        tag("nav", tag("ul", *links), aria_label="Since when", class_="choices"),
        live("events", event_table(caption, found)),
        tag("p", f"There may be more: only {EVENTS_MAX} are shown.")
        if len(found) == EVENTS_MAX
        else None,
    ]


def event_table(caption: str, events: Sequence[Event], *, is_short: bool = False) -> Html:
    """Events, a row each; if wanted with the beginnings of ids alone."""
    return table(
        caption,
        ["Time", "Event", "What", "Who", "Shards", "Lasted"],
        [_row(_shortened(event) if is_short else event) for event in events],
        empty="Nothing happened.",
    )


def _shortened(event: Event) -> Event:
    what = _UUID.sub(r"\1", event.what)
    who = None if event.who is None else _UUID.sub(r"\1", event.who)
    return msgspec.structs.replace(event, what=what, who=who)


def _row(event: Event) -> list[Child]:
    name = event.event.replace("_", " ")
    what: Child = tag("bdi", event.what)
    if event.event == "dead_letter":
        letter, _, reason = event.what.partition(": ")
        what = [link(letter, f"/letters/{letter}"), ": ", tag("bdi", reason)]
    return [
        time(event.time),
        tag("span", name, class_=f"event {event.event}"),
        what,
        tag("bdi", event.who) if event.who else "-",
        describe_shards(event.shards) if event.shards else "-",
        "-" if event.seconds is None else describe_seconds(event.seconds),
    ]
