"""Binary COPY data read back into rows."""

import struct
from typing import Any

from engine.store.driver import POSTGRES_EPOCH

_HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_INTEGERS = {2: ">h", 4: ">i", 8: ">q"}
_BYTES = {"hold_id", "id", "transfer_id", "pending_id", "user_data_128", "request", "flow", "input"}
_WIDTHS = {
    "spent": {
        "id": 16, "number": 8, "debit_account": 8, "credit_account": 8, "amount": 8, "code": 4,
        "flags": 2, "shard": 2, "outcome": 2, "timeout": 8, "expires_at": 8, "pending_id": 16,
        "user_data_128": 16, "user_data_64": 8, "user_data_32": 8, "request": None,
    },
    "posted": {
        "number": 8, "stripe": 8, "version": 8, "amount": 8, "pending_amount": 8,
        "debits_pending": 8, "debits_posted": 8, "credits_pending": 8, "credits_posted": 8,
        "transfer_id": 16, "run": 4, "earlier_transfers": None, "earlier_amounts": None,
        "earlier_pending": None, "debit": None,
    },
    "flows.steps": {
        "flow": 16, "seq": 2, "step": 2, "state": None, "event": None, "attempt": 4, "due_at": 8,
        "transfer_id": 16, "reference": None, "signal": 8, "request": None, "detail": None, "at": 8,
        "number": 8,
    },
    "flows.flows": {
        "id": 16, "definition": 2, "outcome": None, "name": None, "shard": 2, "depth": 2,
        "input": None, "accounts": None, "started_by": None, "started_at": 8, "number": 8,
    },
    "flows.inbox": {
        "flow": 16, "name": None, "message_id": None, "event": None, "body": None, "answer": None,
        "number": 8, "received_at": 8,
    },
    "resolutions": {"hold_id": 16, "transfer_id": 16, "status": None, "number": 8},
}  # fmt: skip
"""Bytes of each column's type; None where any length will do."""
_JSON = {"detail", "accounts", "body"}
_TIMES = {"expires_at", "due_at", "at", "started_at", "received_at"}
_ELEMENTS = {
    "earlier_transfers": (2950, 16), "earlier_amounts": (20, 8), "earlier_pending": (20, 8),
    "debit": (16, 1),
}  # fmt: skip
"""Of each array: the type of its elements and their bytes."""
_ZERO_BY_DEFAULT = (
    "amount", "pending_amount", "debits_pending", "debits_posted", "credits_pending",
    "credits_posted",
)  # fmt: skip


class BadCopyError(Exception):
    """The data is not what Postgres would take."""


def read_copy(table: str, columns: list[str], data: bytes) -> list[dict[str, Any]]:
    """The rows of a COPY; columns that it leaves out have their defaults, mostly None.

    Raises:
        BadCopyError: Postgres would refuse the data.
    """
    if not data.startswith(_HEADER):
        raise BadCopyError("COPY file signature not recognized")
    rows = []
    at = len(_HEADER)
    empty: dict[str, Any] = dict.fromkeys(_WIDTHS[table])
    if table == "posted":
        empty |= dict.fromkeys(_ZERO_BY_DEFAULT, 0)
    while True:
        (count,) = struct.unpack_from(">h", data, at)
        at += 2
        if count == -1:
            break
        if count != len(columns):
            raise BadCopyError(f"row field count is {count}, expected {len(columns)}")
        row = dict(empty)
        for name in columns:
            (length,) = struct.unpack_from(">i", data, at)
            at += 4
            row[name] = None if length == -1 else _value(table, name, data[at : at + length])
            at += max(length, 0)
        rows.append(row)
    if at != len(data):
        raise BadCopyError("received copy data after EOF marker")
    return rows


def _value(table: str, name: str, value: bytes) -> Any:
    if _WIDTHS[table][name] not in (None, len(value)):
        raise BadCopyError(f"incorrect binary data format in {name}")
    if name in _ELEMENTS:
        return _elements(name, value)
    if name in _JSON:
        if value[:1] != b"\x01":
            raise BadCopyError("unsupported jsonb version number")
        return value[1:].decode()
    if _WIDTHS[table][name] is None and name not in _BYTES:
        return value.decode()
    if name in _BYTES:
        return bytes(value)
    (number,) = struct.unpack(_INTEGERS[len(value)], value)
    return number + POSTGRES_EPOCH if name in _TIMES else number


def _elements(name: str, value: bytes) -> list[Any]:
    """An array of one dimension without nulls."""
    oid, width = _ELEMENTS[name]
    dimensions, nulls, kind, length, lower = struct.unpack_from(">iiiii", value)
    if (dimensions, nulls, kind, lower) != (1, 0, oid, 1) or len(value) != 20 + length * (
        4 + width
    ):
        raise BadCopyError(f"incorrect binary data format in {name}")
    found: list[Any] = []
    for at in range(20, len(value), 4 + width):
        if struct.unpack_from(">i", value, at) != (width,):
            raise BadCopyError(f"incorrect binary data format in {name}")
        element = value[at + 4 : at + 4 + width]
        if width == 16:
            found.append(bytes(element))
        else:
            found.append(element == b"\x01" if width == 1 else struct.unpack(">q", element)[0])
    return found
