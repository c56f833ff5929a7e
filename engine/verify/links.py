"""Seals, digests and links, made again as the triggers of the ledger make them."""

import hashlib
import struct
from collections.abc import Mapping
from typing import Any, Final

NOTHING: Final = bytes(32)
"""In the place of what a row does not have."""


def seal_of(row: Mapping[str, Any]) -> bytes:
    """As `ledger.seal_of`."""
    data_128 = row["user_data_128"].bytes if row["user_data_128"] is not None else bytes(16)
    return hashlib.sha256(
        struct.pack(">q", row["number"])
        + row["id"].bytes
        + struct.pack(">qi", row["ledger"], row["code"])
        + data_128
        + struct.pack(">qq", row["user_data_32"], row["created_at"])
        + f"{row['user_data_64']} {','.join(row['flags'])}".encode()
    ).digest()


def digest_of_freeze(row: Mapping[str, Any]) -> bytes:
    """As `ledger.digest_of_freeze`."""
    hasher = hashlib.sha256(
        struct.pack(">qq?q", row["freeze_number"], row["thaws"] or 0, row["declines"], row["time"])
    )
    for name in ("act", "kind", "what", "acted_by", "reason", "role"):
        word = row[name].encode()
        hasher.update(struct.pack(">i", len(word)) + word)
    return hasher.digest()


def link_of(flush: Mapping[str, Any], before: bytes, named: bytes | None) -> bytes:
    """As `ledger.link_flush`."""
    return hashlib.sha256(
        before
        + flush["worker"].bytes
        + struct.pack(">qqq", flush["sequence"], flush["flush"], flush["time"])
        + struct.pack(">iii", flush["transfers"], flush["declined"], flush["postings"])
        + struct.pack(">qh", flush["other"] or 0, flush["form"] or 0)
        + (flush["digest"] or NOTHING)
        + (flush["seals"] or NOTHING)
        + (named or NOTHING)
        + flush["kind"].encode()
    ).digest()
