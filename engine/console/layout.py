"""What pages are made of: the frame, tables, facts, fields, times."""

from collections.abc import Collection, Sequence
from typing import Final
from urllib.parse import quote, urlencode

import msgspec

from engine.console.markup import Child, Html, join, tag

NAVIGATION: Final = (
    ("/", "Overview"),
    ("/events", "Events"),
    ("/letters", "Dead letters"),
    ("/accounts", "Accounts"),
    ("/where", "Where"),
    ("/plans", "Plans"),
    ("/freezes", "Freezes"),
)


NOTHING: Final = "nothing"
"""Cells that are left out where a row is a card."""


class Frame(msgspec.Struct, frozen=True):
    """What each page says of the console itself."""

    reads_as: str
    """The role of Postgres."""
    by: str
    """Who acts, where nobody else is named."""
    form: str
    """The word that only our pages know."""


def page(frame: Frame, place: str, title: str, *content: Child, said: str | None = None) -> Html:
    """A whole page.

    Args:
        frame: Of all pages.
        place: The entry of the navigation that it belongs to.
        title: Its heading.
        content: Below the heading.
        said: What was just done, if anything.
    """
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", f"{title} - engine"),
        tag("link", rel="icon", href="/static/icon.svg"),
        tag("link", rel="stylesheet", href="/static/console.css"),
        tag("script", type="module", src="/static/live.js"),
    )
    links = [
        tag("li", tag("a", name, href=path, aria_current="page" if path == place else None))
        for path, name in NAVIGATION
    ]
    body = tag(
        "body",
        tag("a", "Skip to content", class_="skip", href="#main"),
        tag(
            "header",
            tag("a", "engine", class_="brand", href="/", aria_label="engine: overview"),
            tag("nav", tag("ul", *links), aria_label="Pages"),
            _search(),
        ),
        tag(
            "main",
            tag("h1", title),
            None if said is None else tag("p", said, class_="said", role="status"),
            *content,
            id="main",
            tabindex=-1,
        ),
        tag(
            "footer",
            tag(
                "p",
                "Reads as ",
                tag("bdi", frame.reads_as),
                ". Acts as ",
                tag("bdi", frame.by),
                ". Times are UTC.",
            ),
            tag("p", id="live", class_="live"),
            tag("p", id="announce", class_="hidden", role="status", aria_live="polite"),
        ),
    )
    return Html(f"<!doctype html>\n{tag('html', head, body, lang='en')}")


def _search() -> Html:
    return tag(
        "form",
        tag("label", "Where is", for_="wanted", class_="hidden"),
        tag(
            "input",
            id="wanted",
            name="id",
            type="search",
            placeholder="id, entry or account",
            autocomplete="off",
            spellcheck="false",
            required=True,
        ),
        tag("button", "Find", type="submit"),
        action="/where",
        role="search",
        class_="search",
    )


def live(name: str, *content: Child, class_: str | None = None) -> Html:
    """A part that the browser brings up to date by itself."""
    return tag("div", *content, id=name, data_live=True, class_=class_)


def section(heading: str, *content: Child, id_: str | None = None) -> Html:
    """A part of a page with its heading."""
    return tag("section", tag("h2", heading, id=id_), *content)


def table(
    caption: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[Child]],
    *,
    numbers: Collection[str] = (),
    empty: str,
) -> Html:
    """A table whose rows are cards where it is narrow, and still a table to a screen reader.

    Args:
        caption: What it shows.
        columns: Their headings; the first column names its row.
        rows: The cells.
        numbers: The columns that are aligned to the right.
        empty: What is said where there are no rows.
    """
    if not rows:
        return tag("p", empty, class_="none")
    styles = ["number" if column in numbers else None for column in columns]
    heads = [
        tag("th", column or tag("span", "Act", class_="hidden"), scope="col", role="columnheader",
            class_=style)
        for column, style in zip(columns, styles, strict=True)
    ]  # fmt: skip
    body = []
    for row in rows:
        first, *rest = row
        cells = [tag("th", first, scope="row", role="rowheader", class_=styles[0])]
        cells += [
            tag(
                "td",
                cell,
                role="cell",
                class_="nothing" if cell == "-" else style,
                data_label=column,
            )
            for cell, column, style in zip(rest, columns[1:], styles[1:], strict=True)
        ]
        body.append(tag("tr", *cells, role="row"))
    return tag(
        "table",
        tag("caption", caption),
        tag("thead", tag("tr", *heads, role="row"), role="rowgroup"),
        tag("tbody", *body, role="rowgroup"),
        role="table",
    )


def _style(cell: Child, style: str | None) -> str | None:
    if cell != "-":
        return style
    return NOTHING if style is None else f"{style} {NOTHING}"


def facts(*pairs: tuple[str, Child], class_: str = "facts") -> Html:
    """Names and what they are; what is None is left out."""
    return tag(
        "dl",
        *(
            tag("div", tag("dt", name), tag("dd", value))
            for name, value in pairs
            if value is not None
        ),
        class_=class_,
    )


def field(name: str, label: str, value: str = "", *, hint: str | None = None, **how: str) -> Html:
    """A text that is to be given."""
    hint_id = f"{name}-hint" if hint else None
    return tag(
        "p",
        tag("label", label, for_=name),
        tag("input", id=name, name=name, value=value, required=True, autocomplete="off",
            aria_describedby=hint_id, **how),
        tag("small", hint, id=hint_id) if hint else None,
        class_="field",
    )  # fmt: skip


def choice(name: str, label: str, options: Sequence[tuple[str, str]], chosen: str = "") -> Html:
    """One of some values."""
    return tag(
        "p",
        tag("label", label, for_=name),
        tag(
            "select",
            *(
                tag("option", shown, value=value, selected=value == chosen)
                for value, shown in options
            ),
            id=name,
            name=name,
        ),
        class_="field",
    )


def hidden(name: str, value: str) -> Html:
    """A value that goes with a form."""
    return tag("input", type="hidden", name=name, value=value)


def time(text: str | None, *, digits: int = 19) -> Html:
    """A time of the ledger: UTC, to the second or as exactly as wanted."""
    if text is None:
        return Html()
    return tag("time", text[:digits].replace("T", " "), datetime=text)


def link(text: Child, path: str, **query: str) -> Html:
    """A link to another page."""
    return tag("a", text, href=address(path, **query))


def address(path: str, **query: str) -> str:
    """The address of a page of ours."""
    return quote(path) + (f"?{urlencode(query)}" if query else "")


def id_link(text: str, name: str | None = None) -> Html:
    """An id, or the name of what has it, that leads to its life."""
    return tag("a", tag("bdi", name or text), href=address("/where", id=text), class_="id")


def worker_name(worker: str | None) -> Child:
    """A worker's id as it is shown: its beginning."""
    return "nobody" if worker is None else tag("code", worker[:8], title=worker)


def paragraphs(*texts: Child) -> Html:
    """Texts one below the other."""
    return join([tag("p", text) for text in texts if text is not None])
