"""What is printed for people, in words and characters that any terminal shows."""


def printable(text: str) -> str:
    """The text with what would steer a terminal written out: escapes, newlines, bidi marks."""
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in text
    )
