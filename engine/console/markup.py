"""HTML out of values: every text is escaped, and nothing else is a way to write markup."""

import html
from collections.abc import Iterable
from typing import Final, TypeAlias

from engine.operating.phrases import printable


class Html(str):
    """Markup that is finished."""

    __slots__ = ()


Child: TypeAlias = "str | int | float | Iterable[Child] | None"
"""What may stand in an element. A text that is no `Html` is escaped; None is nothing."""

_EMPTY: Final = frozenset({"input", "link", "meta"})
"""Elements that have no end."""


def tag(name: str, /, *children: Child, **attributes: str | float | bool | None) -> Html:
    """An element.

    Args:
        name: Of the element; always a word of our own.
        children: What stands in it.
        attributes: Where `_` stands for `-`, and one at the end for nothing, as in `class_`. True
            is an attribute without a value, False and None are no attribute.
    """
    words = [name]
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        named = key.rstrip("_").replace("_", "-")
        words.append(named if value is True else f'{named}="{verbatim(str(value))}"')
    start = f"<{' '.join(words)}>"
    if name in _EMPTY:
        return Html(start)
    return Html(f"{start}{join(children)}</{name}>")


def join(children: Child) -> Html:
    """Children one after the other."""
    if children is None:
        return Html()
    if isinstance(children, Html):
        return children
    if isinstance(children, str | int | float):
        return _shown(str(children))
    return Html("".join(map(join, children)))


def verbatim(text: str) -> Html:
    """A text that a form sends back as it is."""
    return Html(html.escape(text).replace("\r", "&#13;"))


def _shown(text: str) -> Html:
    """A text that is read: with what would steer it written out, but for the ends of lines."""
    return verbatim(text if text.isprintable() else "\n".join(map(printable, text.split("\n"))))
