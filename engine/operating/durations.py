"""Durations as people write them: 90s, 10m, 2h, 7d."""

import re
from typing import Final

from engine.errors import InputError

_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_WRITTEN: Final = re.compile(r"(\d{1,9})\s*([smhd]?)")


def parse_seconds(text: str) -> int:
    """Read a duration; a number alone is seconds.

    Raises:
        InputError: When it is written in another way.
    """
    match = _WRITTEN.fullmatch(text.strip().lower())
    if match is None:
        raise InputError(f"{text!r} is no duration: write 90s, 10m, 2h or 7d")
    return int(match[1]) * _SECONDS[match[2] or "s"]
