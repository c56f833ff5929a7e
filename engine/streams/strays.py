"""Entries in streams that nobody reads, as of a producer that got a name wrong."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from engine.ledger.nouns import SHARD_COUNT_MAX, stream_name
from engine.streams.address import parse_address

if TYPE_CHECKING:
    from engine.streams.library import LibraryClient

SCAN_KEYS: Final = 1000
"""Keys that one step looks at."""

SCAN_STEPS_MAX: Final = 200
"""In a Redis with more keys only likely names are looked at."""


async def find_strays(url: str, prefix: str, shard_count: int) -> dict[str, int]:
    """By name, how many entries stand in streams beside those of the shards.

    Args:
        url: As for `Streams`.
        prefix: Of the names of the streams.
        shard_count: Of the ledger.

    Raises:
        ConfigurationError, TryAgainError: As `open_library`.
    """
    from engine.streams.library import open_library  # noqa: PLC0415 - who asks nothing loads nothing

    address = parse_address(url)
    async with open_library(address) as client:
        names = set(_likely_names(prefix, shard_count))
        if not address.is_cluster:
            names |= await _scan_names(client, prefix)
        names -= {stream_name(prefix, shard) for shard in range(shard_count)}
        wanted = sorted(names)
        asked = client.pipeline(transaction=False)
        for name in wanted:
            asked.xlen(name)
        lengths = await asked.execute(raise_on_error=False)
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


async def _scan_names(client: "LibraryClient", prefix: str) -> set[str]:
    """All names that begin as those of the shards do, as far as a bounded look goes."""
    pattern = "".join(f"\\{letter}" if letter in "*?[]\\^" else letter for letter in prefix)
    names: set[str] = set()
    cursor = 0
    for _ in range(SCAN_STEPS_MAX):
        cursor, found = await client.scan(cursor, f"{pattern}:transfers*", SCAN_KEYS)
        # Streams whose ids came to their end are decided where they lie.
        names |= {_text(name) for name in found if "}:poisoned" not in _text(name)}
        if cursor == 0:
            break
    return names


def _text(name: bytes | str) -> str:
    return name if isinstance(name, str) else name.decode(errors="backslashreplace")
