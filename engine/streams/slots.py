"""Redis Cluster (or Valkey): how one is named, and which of its nodes holds a stream.

A cluster is named as `redis+cluster://HOST:PORT,HOST:PORT`, by some of its nodes (with
`rediss+cluster://` over TLS); user and password stand before the first, and are for all.
"""

import binascii
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from engine.errors import ConfigurationError

SLOT_COUNT: Final = 16_384
REDIRECTIONS_MAX: Final = 8
"""How often one command is sent on to another node."""

_SCHEME_END: Final = "+cluster://"


class Node(NamedTuple):
    """Where a node answers."""

    host: str
    port: int


def is_cluster(url: str) -> bool:
    """Whether an address names a cluster."""
    return _SCHEME_END in url


def seeds_of(url: str) -> list[Node]:
    """The nodes that an address names.

    Raises:
        ConfigurationError: It cannot be read.
    """
    _, _, rest = url.partition(_SCHEME_END)
    hosts = rest.partition("/")[0].rpartition("@")[2].split(",")
    try:
        return [Node(host, int(port)) for host, _, port in (h.rpartition(":") for h in hosts)]
    except ValueError:
        raise ConfigurationError(
            f"{hosts} are no nodes; give redis+cluster://HOST:PORT,HOST:PORT"
        ) from None


def url_of(url: str, node: Node) -> str:
    """The address of one node of the cluster that `url` names."""
    scheme, _, rest = url.partition(_SCHEME_END)
    userinfo, at, _ = rest.partition("/")[0].rpartition("@")
    return f"{scheme}://{userinfo}{at}{node.host}:{node.port}"


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
