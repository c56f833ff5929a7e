"""Redis Cluster (or Valkey): which of its nodes holds a stream."""

import binascii
from collections.abc import Sequence
from typing import Any, Final

from engine.streams.address import Node

SLOT_COUNT: Final = 16_384
REDIRECTIONS_MAX: Final = 8
"""How often one command is sent on to another node."""


def slot_of(key: bytes) -> int:
    """The slot of a key. Source: the Redis Cluster specification."""
    start = key.find(b"{")
    end = key.find(b"}", start + 1)
    if start >= 0 and end > start + 1:
        key = key[start + 1 : end]
    return binascii.crc_hqx(key, 0) % SLOT_COUNT


def primaries_of(reply: Sequence[Any], asked: Node) -> list[Node | None]:
    """By slot, its primary, from what `CLUSTER SLOTS` answers; None where a slot has none.

    Args:
        reply: As the server gives it.
        asked: The node that answered, which may call itself by no name.
    """
    primaries: list[Node | None] = [None] * SLOT_COUNT
    for first, last, primary, *_ in reply:
        host = bytes(primary[0] or b"").decode()
        node = Node(asked.host if host in {"", "?"} else host, int(primary[1]))
        primaries[first : last + 1] = [node] * (last + 1 - first)
    return primaries


def redirection(words: str, asked: Node) -> tuple[int, Node]:
    """Slot and node of `3999 127.0.0.1:6381`, which follows MOVED or ASK."""
    slot, _, address = words.partition(" ")
    host, _, port = address.rpartition(":")
    return int(slot), Node(host or asked.host, int(port))
