"""A transfer as 128 bytes: the row that travels from the wire to the ledger.

Source: TigerBeetle's reference, "Transfer", 0.17.9. Ours differs in one thing: the fields of
16 bytes that are not amounts stand in uuid byte order, so that they are Postgres's uuids.
"""

import struct
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from engine.errors import InputError
from engine.ledger.nouns import Transfer

Rows: TypeAlias = npt.NDArray[np.void]
"""An array of dtype `TRANSFER`, one dimension."""

TRANSFER: Final = np.dtype(
    [
        ("id", "V16"),
        ("debit_account_id", "V16"),
        ("credit_account_id", "V16"),
        ("amount_low", "<u8"),
        ("amount_high", "<u8"),
        ("pending_id", "V16"),
        ("user_data_128", "V16"),
        ("user_data_64", "<u8"),
        ("user_data_32", "<u4"),
        ("timeout", "<u4"),
        ("ledger", "<u4"),
        ("code", "<u2"),
        ("flags", "<u2"),
        ("timestamp", "<u8"),
    ],
)
"""The columns of transfers. The fields of 16 bytes are V16 and not S16, which would drop
trailing zero bytes: `tolist()` of one gives `bytes` of length 16; a contiguous copy can be
viewed as pairs of u64 to compare, hash or sort."""

TRANSFER_BYTES: Final = TRANSFER.itemsize

_PACKED: Final = struct.Struct("<16s16s16sQQ16s16sQIIIHHQ")
_LOW: Final = 2**64 - 1


def transfers_to_rows(transfers: list[Transfer]) -> Rows:
    """Lay transfers out as rows, which are writable.

    Raises:
        InputError: When a value does not fit its field, an id that is not 16 bytes among them.
    """
    _check_ids(transfers)
    pack = _PACKED.pack
    try:
        packed = [
            pack(
                t.id,
                t.debit_account_id,
                t.credit_account_id,
                t.amount & _LOW,
                t.amount >> 64,  # Of a negative amount it is negative, and refused.
                t.pending_id,
                t.user_data_128,
                t.user_data_64,
                t.user_data_32,
                t.timeout,
                t.ledger,
                t.code,
                t.flags,
                t.timestamp,
            )
            for t in transfers
        ]
    except struct.error as error:
        raise InputError(f"A transfer's value does not fit its field: {error}") from None
    return np.frombuffer(bytearray(b"".join(packed)), TRANSFER)


def rows_to_transfers(rows: Rows) -> list[Transfer]:
    """Read rows back as transfers."""
    return [
        Transfer(
            transfer_id,
            debit_account_id,
            credit_account_id,
            high << 64 | low if high else low,
            pending_id,
            user_data_128,
            user_data_64,
            user_data_32,
            timeout,
            ledger,
            code,
            flags,
            timestamp,
        )
        for (
            transfer_id,
            debit_account_id,
            credit_account_id,
            low,
            high,
            pending_id,
            user_data_128,
            user_data_64,
            user_data_32,
            timeout,
            ledger,
            code,
            flags,
            timestamp,
        ) in _PACKED.iter_unpack(rows.tobytes())
    ]


def _check_ids(transfers: list[Transfer]) -> None:
    """Refuse what `struct` would silently cut or fill up to 16 bytes."""
    for index, t in enumerate(transfers):
        if not (
            len(t.id)
            == len(t.debit_account_id)
            == len(t.credit_account_id)
            == len(t.pending_id)
            == len(t.user_data_128)
            == 16
        ):
            raise InputError(f"Expected ids of 16 bytes - at `$[{index}]`")
