"""Entries in streams that nobody reads, as of a producer that got a name wrong."""

import asyncio
from collections.abc import Iterator
from typing import Any, Final

from engine.ledger.nouns import SHARD_COUNT_MAX, stream_name
from engine.streams.address import parse_address
from engine.streams.cluster_connection import open_connection

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
        ConfigurationError, TryAgainError: As `open_connection`.
    """
    address = parse_address(url)
    connection = await open_connection(address)
    try:
        names = set(_likely_names(prefix, shard_count))
        if not address.is_cluster:
            names |= await _scan_names(connection, prefix)
        names -= {stream_name(prefix, shard) for shard in range(shard_count)}
        wanted = sorted(names)
        lengths = await asyncio.gather(
            *(connection.ask(b"XLEN", name.encode()) for name in wanted), return_exceptions=True
        )
    finally:
        connection.abort()
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


async def _scan_names(connection: Any, prefix: str) -> set[str]:
    """All names that begin as those of the shards do, as far as a bounded look goes."""
    pattern = "".join(f"\\{letter}" if letter in "*?[]\\^" else letter for letter in prefix)
    names: set[str] = set()
    cursor = b"0"
    for _ in range(SCAN_STEPS_MAX):
        cursor, found = await connection.ask(
            b"SCAN", cursor, b"MATCH", f"{pattern}:transfers*".encode(), b"COUNT", b"%d" % SCAN_KEYS
        )
        # Streams whose ids came to their end are decided where they lie.
        names |= {
            name.decode(errors="backslashreplace") for name in found if b"}:poisoned" not in name
        }
        if cursor == b"0":
            break
    return names
