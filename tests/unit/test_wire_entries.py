import csv
import json

import msgspec
import numpy as np
import pytest

from engine.errors import InputError
from engine.ledger.nouns import AMOUNT_MAX, BATCH_TRANSFERS_MAX, Transfer, TransferFlags
from engine.wire.entries import encode_entry, parse_transfer_csv_row, parse_transfer_json
from engine.wire.layout import TRANSFER, transfers_to_rows
from engine.wire.requests import Format, decode_entry

UUID = "00112233-4455-6677-8899-aabbccddeeff"
UUID_BYTES = bytes.fromhex("00112233445566778899aabbccddeeff")
OTHER = "0190a1b2-0000-7000-8000-000000000001"
OTHER_BYTES = bytes.fromhex("0190a1b2000070008000000000000001")
SIMPLE = Transfer(
    id=UUID_BYTES,
    debit_account_id=OTHER_BYTES,
    credit_account_id=UUID_BYTES,
    amount=7,
    ledger=1,
    code=2,
)
FULL = Transfer(
    id=UUID_BYTES,
    debit_account_id=OTHER_BYTES,
    credit_account_id=UUID_BYTES,
    amount=2**64,
    pending_id=OTHER_BYTES,
    user_data_128=UUID_BYTES,
    user_data_64=2**64 - 1,
    user_data_32=3,
    timeout=4,
    ledger=1,
    code=2,
    flags=TransferFlags.linked | TransferFlags.pending,
)


# Entries


def test_json_leaves_out_what_is_zero_but_never_the_amount() -> None:
    entry = encode_entry(transfers_to_rows([SIMPLE]), Format.json)
    assert json.loads(entry[b"json"]) == [
        {
            "id": UUID,
            "debit_account_id": OTHER,
            "credit_account_id": UUID,
            "amount": 7,
            "ledger": 1,
            "code": 2,
        },
    ]
    void = msgspec.structs.replace(SIMPLE, amount=0, flags=TransferFlags.post_pending_transfer)
    assert (
        json.loads(encode_entry(transfers_to_rows([void]), Format.json)[b"json"])[0]["amount"] == 0
    )


def test_mp_has_ids_as_bytes_and_a_large_amount_as_16_bytes() -> None:
    entry = encode_entry(transfers_to_rows([FULL]), Format.mp)
    (written,) = msgspec.msgpack.decode(entry[b"mp"])
    assert written["id"] == UUID_BYTES
    assert written["amount"] == bytes(7) + b"\1" + bytes(8)
    assert written["flags"] == ["linked", "pending"]


def test_bin_is_the_rows_as_they_are() -> None:
    rows = transfers_to_rows([SIMPLE, FULL])
    assert encode_entry(rows, Format.bin) == {b"bin": rows.tobytes()}


@pytest.mark.parametrize("form", list(Format))
@pytest.mark.parametrize("amount", [0, 1, 2**63, 2**64 - 1, 2**64, AMOUNT_MAX - 1, AMOUNT_MAX])
@pytest.mark.parametrize("flags", [0, TransferFlags.post_pending_transfer, 1 << 8])
def test_what_is_written_is_read_the_same(form, amount, flags) -> None:
    rows = transfers_to_rows(
        [SIMPLE, msgspec.structs.replace(FULL, amount=amount, flags=int(flags))]
    )
    read = decode_entry(encode_entry(rows, form, reply=b"engine:answers:1", request=b"\0"))
    assert read.transfers.tobytes() == rows.tobytes()
    assert (read.format, read.reply, read.request) == (form, b"engine:answers:1", b"\0")


@pytest.mark.parametrize("form", list(Format))
def test_an_empty_batch_can_be_written(form) -> None:
    assert len(decode_entry(encode_entry(np.zeros(0, TRANSFER), form)).transfers) == 0


@pytest.mark.parametrize("form", list(Format))
def test_a_batch_over_the_maximum_is_not_written(form) -> None:
    with pytest.raises(InputError, match="8189 at most"):
        encode_entry(np.zeros(BATCH_TRANSFERS_MAX + 1, TRANSFER), form)


def test_a_payload_over_2_mib_is_not_written() -> None:
    rows = transfers_to_rows([FULL] * BATCH_TRANSFERS_MAX)
    with pytest.raises(InputError, match="send fewer, or as bin"):
        encode_entry(rows, Format.json)
    assert len(encode_entry(rows, Format.bin)[b"bin"]) == 128 * BATCH_TRANSFERS_MAX


@pytest.mark.parametrize("form", [Format.json, Format.mp])
def test_flags_without_a_name_go_as_bin_only(form) -> None:
    rows = transfers_to_rows([msgspec.structs.replace(SIMPLE, flags=1 << 9)])
    with pytest.raises(InputError, match="without a name"):
        encode_entry(rows, form)
    assert decode_entry(encode_entry(rows, Format.bin)).transfers["flags"].tolist() == [1 << 9]


# Lines of JSON


FULL_JSON = {
    "id": UUID,
    "debit_account_id": OTHER,
    "credit_account_id": UUID,
    "amount": 2**64,
    "pending_id": OTHER,
    "user_data_128": UUID,
    "user_data_64": 2**64 - 1,
    "user_data_32": 3,
    "timeout": 4,
    "ledger": 1,
    "code": 2,
    "flags": ["linked", "pending"],
}


def test_a_line_of_json_is_a_transfer() -> None:
    assert parse_transfer_json(json.dumps(FULL_JSON).encode()) == FULL


def test_a_mapping_is_the_same_transfer() -> None:
    assert parse_transfer_json(FULL_JSON) == FULL


@pytest.mark.parametrize("amount", [0, 2**64, AMOUNT_MAX, "max"])
def test_amounts_of_lines_and_mappings_are_those_of_entries(amount) -> None:
    line = json.dumps({"amount": amount}).encode()
    (expected,) = decode_entry({b"json": line}).transfers["amount_high"].tolist()
    assert parse_transfer_json(line) == parse_transfer_json({"amount": amount})
    assert parse_transfer_json(line).amount >> 64 == expected


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ({}, "Object missing required field `amount` - at `$.amount`"),
        ({"amount": None}, "Expected `int | str`, got `null` - at `$.amount`"),
        ({"amount": 1.0}, "Expected `int | str`, got `float` - at `$.amount`"),
        ({"amount": True}, "Expected `int | str`, got `bool` - at `$.amount`"),
        ({"amount": "1"}, "Invalid enum value '1' - at `$.amount`"),
        ({"amount": -1}, "Expected `int` >= 0 - at `$.amount`"),
        ({"amount": 2**128}, f"Expected `int` <= {AMOUNT_MAX} - at `$.amount`"),
        ({"amount": 1, "code": 2**16}, "Expected `int` <= 65535 - at `$.code`"),
        (
            {"amount": 1, "user_data_64": 2**64},
            f"Expected `int` <= {2**64 - 1} - at `$.user_data_64`",
        ),
        ({"amount": 1, "id": "7"}, "Expected `str` of length >= 36 - at `$.id`"),
        ({"amount": 1, "id": "g" * 36}, "Expected `uuid` written 8-4-4-4-12 - at `$.id`"),
        ({"amount": 1, "flags": ["huge"]}, "Invalid enum value 'huge' - at `$.flags[0]`"),
        ({"amount": 1, "colour": 1}, "Object contains unknown field `colour`"),
    ],
)
def test_a_line_or_mapping_is_refused_with_the_reason(line, reason) -> None:
    for given in (json.dumps(line).encode(), line):
        with pytest.raises(InputError) as caught:
            parse_transfer_json(given)
        assert str(caught.value).replace("None", "null") == reason


@pytest.mark.parametrize("line", [b"", b"[]", b"[{}]", b"1", b"\xff", b'{"amount":1,"amount":2}'])
def test_a_line_that_is_no_single_object_is_refused(line) -> None:
    with pytest.raises(InputError):
        parse_transfer_json(line)


def test_a_mapping_with_a_key_that_is_no_text_is_refused() -> None:
    with pytest.raises(InputError):
        parse_transfer_json({1: 2})


# Rows of CSV


def test_a_row_of_csv_is_a_transfer() -> None:
    header = "id,debit_account_id,credit_account_id,amount,pending_id,user_data_128,user_data_64,"
    header += "user_data_32,timeout,ledger,code,flags"
    line = f"{UUID},{OTHER},{UUID},{2**64},{OTHER},{UUID},{2**64 - 1},3,4,1,2,linked|pending"
    (row,) = csv.DictReader([header, line])
    assert parse_transfer_csv_row(row) == FULL


@pytest.mark.parametrize(
    ("row", "amount"),
    [
        ({"amount": "0"}, 0),
        ({"amount": "007"}, 7),
        ({"amount": "max"}, AMOUNT_MAX),
        ({"amount": str(AMOUNT_MAX)}, AMOUNT_MAX),
        ({"amount": "", "flags": "post_pending_transfer"}, AMOUNT_MAX),
        ({"flags": "linked|void_pending_transfer"}, 0),
        ({"amount": "1", "flags": "", "id": "", "code": ""}, 1),
    ],
)
def test_an_empty_cell_is_left_out(row, amount) -> None:
    assert parse_transfer_csv_row(row).amount == amount


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({}, "Object missing required field `amount` - at `$.amount`"),
        ({"amount": "1.0"}, "Expected `int` >= 0 - at `$.amount`"),
        ({"amount": "-1"}, "Expected `int` >= 0 - at `$.amount`"),
        ({"amount": "1_0"}, "Expected `int` >= 0 - at `$.amount`"),
        ({"amount": " 1"}, "Expected `int` >= 0 - at `$.amount`"),
        ({"amount": "\u0661"}, "Expected `int` >= 0 - at `$.amount`"),
        ({"amount": "9" * 39}, f"Expected `int` <= {AMOUNT_MAX} - at `$.amount`"),
        ({"amount": "9" * 5000}, f"Expected `int` <= {AMOUNT_MAX} - at `$.amount`"),
        ({"amount": "1", "code": "max"}, "Expected `int`, got `str` - at `$.code`"),
        ({"amount": "1", "ledger": "x"}, "Expected `int` >= 0 - at `$.ledger`"),
        (
            {"amount": "1", "flags": "linked,pending"},
            "Invalid enum value 'linked,pending' - at `$.flags[0]`",
        ),
        ({"amount": "1", "flags": "linked|"}, "Invalid enum value '' - at `$.flags[1]`"),
        ({"amount": "1", "id": "x"}, "Expected `str` of length >= 36 - at `$.id`"),
        ({"amount": "1", "colour": ""}, "Row contains unknown column `colour`"),
        ({"amount": "1", "code": None}, "Row ends before its column `code`"),
        ({"amount": "1", None: ["x"]}, "Row has more cells than the header"),
    ],
)
def test_a_row_is_refused_with_the_reason(row, reason) -> None:
    with pytest.raises(InputError) as caught:
        parse_transfer_csv_row(row)
    assert str(caught.value) == reason
