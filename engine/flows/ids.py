"""Ids that follow from a flow, so that whoever asks again asks the same.

48 bits of the flow's time and 74 bits of SHA-256 over fixed-width fields behind a tag, marked as
uuid8: neighbours in time stay neighbours in the index, and no two kinds of id can meet.
"""

import hashlib
import struct
from collections.abc import Sequence
from typing import Final

_FIELDS: Final = struct.Struct(">16s16sHHIq")
"""Tag, what it is of, step, leg, occurrence, time: fixed widths, so that no two read alike."""

_TRANSFER: Final = b"flow transfer"
_REVERSAL: Final = b"flow reversal"
_NOBODY: Final = b"flow nobody"
_CHILD: Final = b"flow child"
_CALL: Final = b"flow call"
_SCHEDULED: Final = b"flow scheduled"


def transfer_id(flow: bytes, step: int, leg: int, occurrence: int) -> bytes:
    """The id of a step's transfer; `occurrence` counts the visits of the step, from 1."""
    return _derive(_TRANSFER, flow, step, leg, occurrence)


def transfer_ids(flows: Sequence[bytes], step: int, leg: int, occurrence: int) -> list[bytes]:
    """`transfer_id` of many flows."""
    fields = _FIELDS.pack(_TRANSFER, bytes(16), step, leg, occurrence, 0)
    before, after = fields[:16], fields[32:]
    sha256 = hashlib.sha256
    digests = [sha256(before + flow + after).digest() for flow in flows]
    return [
        flow[:6] + _VERSIONS[found[0]] + found[1:2] + _VARIANTS[found[2]] + found[3:10]
        for flow, found in zip(flows, digests, strict=True)
    ]


def reversal_id(reversed_id: bytes, occurrence: int) -> bytes:
    """The id of what moves a transfer back: of that transfer alone, whoever reverses it."""
    return _derive(_REVERSAL, reversed_id, 0, 0, occurrence)


def nobody_id(transfer: bytes) -> bytes:
    """An account that does not exist, by which the id of a transfer is spent."""
    return _derive(_NOBODY, transfer, 0, 0, 0)


def child_id(flow: bytes, step: int, occurrence: int) -> bytes:
    """The id of the flow that a step starts."""
    return _derive(_CHILD, flow, step, 0, occurrence)


def call_key(flow: bytes, step: int, occurrence: int) -> bytes:
    """The key of idempotency of a call, the same for all its attempts."""
    return _derive(_CALL, flow, step, 0, occurrence)


def scheduled_id(schedule: bytes, nominal: int) -> bytes:
    """The id of a schedule's occurrence at its nominal local time, in microseconds."""
    return _derive(_SCHEDULED, schedule, 0, 0, 0, nominal)


def _derive(tag: bytes, of: bytes, step: int, leg: int, occurrence: int, time: int = 0) -> bytes:
    digest = hashlib.sha256(_FIELDS.pack(tag, of, step, leg, occurrence, time)).digest()
    made = bytearray(of[:6] + digest[:10])
    made[6] = 0x80 | made[6] & 0x0F
    made[8] = 0x80 | made[8] & 0x3F
    return bytes(made)


_VERSIONS: Final = [bytes([0x80 | byte & 0x0F]) for byte in range(256)]
_VARIANTS: Final = [bytes([0x80 | byte & 0x3F]) for byte in range(256)]
"""By byte of the digest, that byte marked as uuid8."""
