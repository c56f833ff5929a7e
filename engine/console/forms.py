"""Acts in two steps: a form that asks, and a page that says what will be done, for a yes."""

from collections.abc import Mapping, Sequence

import msgspec

from engine.console.layout import Frame, facts, field, hidden
from engine.console.markup import Child, Html, tag


class Asked(msgspec.Struct, frozen=True):
    """What somebody asks for, as it is said before it is done."""

    verb: str
    title: str
    """A sentence: what will be done."""
    effect: str
    """What comes of it."""
    shown: Sequence[tuple[str, str]]
    kept: Mapping[str, str]
    """What goes with the yes."""
    back: str
    """Where a no leads."""


def first_step(frame: Frame, verb: str, button: str, *fields: Child, **kept: str) -> Html:
    """A form that leads to the page that asks for a yes."""
    return tag(
        "form",
        hidden("form", frame.form),
        *(hidden(name, value) for name, value in kept.items()),
        *fields,
        tag("p", tag("button", button, type="submit")),
        action=f"/acts/{verb}",
        method="post",
        class_="act",
    )


def second_step(frame: Frame, asked: Asked) -> list[Child]:
    """The page that asks for a yes, below its heading."""
    return [
        tag("p", asked.effect),
        facts(*((name, tag("bdi", value)) for name, value in asked.shown)),
        tag(
            "form",
            hidden("form", frame.form),
            hidden("sure", "yes"),
            *(hidden(name, value) for name, value in asked.kept.items()),
            field("by", "Who does it", frame.by, hint="It is kept with the act.", maxlength="200"),
            tag(
                "p",
                tag("button", f"Yes: {asked.title[:1].lower()}{asked.title[1:]}", type="submit",
                    class_="sure"),
                tag("a", "No, go back", href=asked.back, class_="no"),
            ),
            action=f"/acts/{asked.verb}",
            method="post",
            class_="act",
        ),
    ]  # fmt: skip
