"""Entries in streams that nobody reads, as of a producer that got a name wrong."""

from collections.abc import Iterator
from typing import Final

from engine.errors import EngineError
from engine.ledger.nouns import SHARD_COUNT_MAX, stream_name
from engine.streams.reader import Sending

SCAN_KEYS: Final = 1000
"""Keys that one step looks at."""

SCAN_STEPS_MAX: Final = 200
"""In a Redis with more keys only likely names are looked at."""


async def find_strays(sender: Sending, prefix: str, shard_count: int) -> dict[str, int]:
    """By name, how many entries stand in streams beside those of the shards.

    Args:
        sender: Connected. On several nodes only likely names are looked at.
        prefix: Of the names of the streams.
        shard_count: Of the ledger.

    Raises:
        TryAgainError: Redis is out of reach.
    """
    names, are_all = (set(), False) if sender.is_cluster else await _scan_names(sender, prefix)
    if not are_all:
        names |= set(_likely_names(prefix, shard_count))
    names -= {stream_name(prefix, shard) for shard in range(shard_count)}
    wanted = sorted(names)
    lengths = await sender.send([("XLEN", name) for name in wanted])
    return {
        name: length
        for name, length in zip(wanted, lengths, strict=True)
        if isinstance(length, int) and length
    }


def _likely_names(prefix: str, shard_count: int) -> Iterator[str]:
    """Names that one gets wrong: braces left out, digits left out, shards that there are not."""
    yield f"{prefix}:transfers"
    for shard in range(shard_count):
        for number in (f"{shard:04d}", f"{shard}", f"{{{shard}}}"):
            yield f"{prefix}:transfers:{number}"
    for shard in range(shard_count, SHARD_COUNT_MAX):
        yield stream_name(prefix, shard)


async def _scan_names(sender: Sending, prefix: str) -> tuple[set[str], bool]:
    """Names that begin as those of the shards do; a bounded look says whether these are all."""
    pattern = "".join(f"\\{letter}" if letter in "*?[]\\^" else letter for letter in prefix)
    names: set[str] = set()
    words = ("MATCH", f"{pattern}:transfers*", "COUNT", SCAN_KEYS)
    cursor = b"0"
    for _ in range(SCAN_STEPS_MAX):
        [answer] = await sender.send([("SCAN", cursor, *words)])
        if isinstance(answer, EngineError):  # It may be refused to this user.
            break
        cursor, found = answer
        # Streams whose ids came to their end are decided where they lie.
        names |= {_text(name) for name in found if "}:poisoned" not in _text(name)}
        if cursor == b"0":
            return names, True
    return names, False


def _text(name: bytes | str) -> str:
    return name if isinstance(name, str) else name.decode(errors="backslashreplace")
