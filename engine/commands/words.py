"""What is printed for people, in words and characters that any terminal shows."""


def printable(text: str) -> str:
    """The text with what would steer a terminal written out: escapes, newlines, bidi marks."""
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in text
    )


def describe_seconds(seconds: float) -> str:
    """A duration in the unit that one would say it in."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"
