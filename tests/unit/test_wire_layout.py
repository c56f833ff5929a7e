import struct

import numpy as np
import pytest

from engine.errors import InputError
from engine.ledger.nouns import AMOUNT_MAX, Transfer
from engine.wire.layout import TRANSFER, TRANSFER_BYTES, rows_to_transfers, transfers_to_rows

FULL = Transfer(
    id=bytes(range(1, 17)),
    debit_account_id=bytes(range(17, 33)),
    credit_account_id=bytes(range(33, 49)),
    amount=0x0102030405060708_1112131415161718,
    pending_id=bytes(range(49, 65)),
    user_data_128=bytes(range(65, 81)),
    user_data_64=2**64 - 2,
    user_data_32=2**32 - 3,
    timeout=2**32 - 4,
    ledger=2**32 - 5,
    code=2**16 - 6,
    flags=2**16 - 7,
    timestamp=2**64 - 8,
)
SMALL = Transfer(
    id=b"\1" + bytes(15), debit_account_id=bytes(16), credit_account_id=bytes(16), amount=0
)


def test_a_row_is_tigerbeetles_128_bytes() -> None:
    """Source: TigerBeetle's reference, Transfer: the fields in this order, little-endian."""
    documented = (
        FULL.id
        + FULL.debit_account_id
        + FULL.credit_account_id
        + FULL.amount.to_bytes(16, "little")
        + FULL.pending_id
        + FULL.user_data_128
        + struct.pack("<Q", FULL.user_data_64)
        + struct.pack("<I", FULL.user_data_32)
        + struct.pack("<I", FULL.timeout)
        + struct.pack("<I", FULL.ledger)
        + struct.pack("<H", FULL.code)
        + struct.pack("<H", FULL.flags)
        + struct.pack("<Q", FULL.timestamp)
    )
    assert len(documented) == TRANSFER_BYTES == 128
    assert transfers_to_rows([FULL]).tobytes() == documented


def test_each_field_lies_where_tigerbeetle_has_it() -> None:
    offsets = {name: TRANSFER.fields[name][1] for name in TRANSFER.names}
    assert offsets == {
        "id": 0,
        "debit_account_id": 16,
        "credit_account_id": 32,
        "amount_low": 48,
        "amount_high": 56,
        "pending_id": 64,
        "user_data_128": 80,
        "user_data_64": 96,
        "user_data_32": 104,
        "timeout": 108,
        "ledger": 112,
        "code": 116,
        "flags": 118,
        "timestamp": 120,
    }


def test_rows_read_back_are_the_same_transfers() -> None:
    transfers = [FULL, SMALL, FULL]
    assert rows_to_transfers(transfers_to_rows(transfers)) == transfers


def test_a_slice_with_a_stride_reads_back_too() -> None:
    assert rows_to_transfers(transfers_to_rows([FULL, SMALL, FULL, SMALL])[1::2]) == [SMALL, SMALL]


def test_no_transfers_are_no_rows() -> None:
    rows = transfers_to_rows([])
    assert rows.dtype == TRANSFER
    assert rows.shape == (0,)
    assert rows_to_transfers(rows) == []


def test_an_id_keeps_the_zero_bytes_at_its_end() -> None:
    assert transfers_to_rows([SMALL])["id"].tolist() == [SMALL.id]


def test_rows_can_be_written_to() -> None:
    rows = transfers_to_rows([SMALL])
    rows["ledger"] = 7
    assert rows_to_transfers(rows)[0].ledger == 7


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("id", bytes(15)),
        ("debit_account_id", bytes(17)),
        ("credit_account_id", b""),
        ("pending_id", bytes(15)),
        ("user_data_128", bytes(17)),
        ("amount", -1),
        ("amount", AMOUNT_MAX + 1),
        ("user_data_64", 2**64),
        ("user_data_32", 2**32),
        ("timeout", -1),
        ("ledger", 2**32),
        ("code", 2**16),
        ("flags", -1),
        ("timestamp", 2**64),
    ],
)
def test_a_value_that_does_not_fit_is_refused_and_not_cut(field: str, value: object) -> None:
    fields = {name: getattr(SMALL, name) for name in SMALL.__struct_fields__}
    with pytest.raises(InputError):
        transfers_to_rows([SMALL, Transfer(**(fields | {field: value}))])


def test_ids_compare_as_columns() -> None:
    rows = transfers_to_rows([FULL, SMALL, FULL])
    assert (rows["id"] == np.void(FULL.id)).tolist() == [True, False, True]
