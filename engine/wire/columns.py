"""Transfers as they were written, laid out as rows, a column at a time.

Whatever the columns cannot read is left to the plain rules of `fields`, which find out
whether it is wrong and say where.
"""

import binascii
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from msgspec import UNSET

from engine.ledger.nouns import ID_ZERO
from engine.wire.fields import WrittenTransfer, amount_of, flags_of, transfer_of, uuid_text
from engine.wire.layout import TRANSFER, Rows, transfers_to_rows

COLUMNS_PAY_FROM: Final = 16
"""Transfers from which on columns are faster than one transfer after the other."""

_LOW: Final = 2**64 - 1
_ZERO_TEXT: Final = uuid_text(ID_ZERO)
_DASHES: Final = (8, 13, 18, 23)


def rows_of(written: Sequence[WrittenTransfer[Any, Any]]) -> Rows:
    """Lay out the transfers of a payload.

    Raises:
        InputError: When one cannot be read; the message says which and where (`$[3].amount`).
    """
    if len(written) >= COLUMNS_PAY_FROM:
        try:
            return _columns_of(written)
        except (ValueError, OverflowError):
            pass  # One of them cannot be read, or not in bulk: the plain rules tell.
    return transfers_to_rows([transfer_of(t, i) for i, t in enumerate(written)])


def _columns_of(written: Sequence[WrittenTransfer[Any, Any]]) -> Rows:
    rows = np.zeros(len(written), TRANSFER)
    flags = [flags_of(t.flags) if t.flags else 0 for t in written]
    _put_amounts(rows, [t.amount for t in written], flags)
    _put_ids(rows["id"], [t.id for t in written])
    _put_ids(rows["debit_account_id"], [t.debit_account_id for t in written])
    _put_ids(rows["credit_account_id"], [t.credit_account_id for t in written])
    _put_ids(rows["pending_id"], [t.pending_id for t in written])
    _put_ids(rows["user_data_128"], [t.user_data_128 for t in written])
    rows["user_data_64"] = _numbers([t.user_data_64 for t in written])
    rows["user_data_32"] = _numbers([t.user_data_32 for t in written])
    rows["timeout"] = _numbers([t.timeout for t in written])
    rows["ledger"] = _numbers([t.ledger for t in written])
    rows["code"] = _numbers([t.code for t in written])
    rows["flags"] = flags
    return rows


def _put_amounts(rows: Rows, amounts: list[object], flags: list[int]) -> None:
    """Fill both halves; the types are looked at first, since numpy would read True as 1."""
    if set(map(type, amounts)) == {int}:
        try:
            rows["amount_low"] = np.array(amounts, np.uint64)
        except OverflowError:
            pass  # An amount has more than 64 bits.
        else:
            return
    whole = [amount_of(amount, bits) for amount, bits in zip(amounts, flags, strict=True)]
    rows["amount_low"] = np.array([amount & _LOW for amount in whole], np.uint64)
    rows["amount_high"] = np.array([amount >> 64 for amount in whole], np.uint64)


def _put_ids(column: npt.NDArray[np.void], ids: list[Any]) -> None:
    """Fill a column from texts or from bytes; what was left out stays zero."""
    left_out = ids.count(UNSET)
    if left_out == len(ids):
        return
    if isinstance(next(filter(None, ids)), str):
        joined = _unhex("".join([i or _ZERO_TEXT for i in ids] if left_out else ids))
    else:
        joined = b"".join([i or ID_ZERO for i in ids] if left_out else ids)
    column[:] = np.frombuffer(joined, "V16")


def _unhex(texts: str) -> bytes:
    """The bytes of uuids of 36 characters each, one after the other.

    Raises:
        ValueError: When one of them is not written 8-4-4-4-12.
    """
    raw = texts.encode("ascii")
    count = len(raw) // 36
    if any(raw[dash::36].count(b"-") != count for dash in _DASHES):
        raise ValueError("A uuid has no dash where one belongs")
    digits = raw.translate(None, b"-")
    if len(digits) != 32 * count:
        raise ValueError("A uuid has a dash where none belongs")
    return binascii.unhexlify(digits)


def _numbers(values: list[int]) -> npt.NDArray[np.int64] | npt.NDArray[np.uint64]:
    """A column of numbers with what was left out, -1, as zero.

    Raises:
        OverflowError: When one has more than 64 bits.
    """
    try:
        column = np.array(values, np.int64)
    except OverflowError:
        return np.array([max(value, 0) for value in values], np.uint64)
    return np.maximum(column, 0)
