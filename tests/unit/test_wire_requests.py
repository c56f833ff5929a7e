"""The rules of an entry as tables: a row per payload, the last column what becomes of it."""

import json
import sys

import msgspec
import numpy as np
import pytest

from engine.errors import InputError
from engine.nouns import (
    AMOUNT_MAX,
    BATCH_TRANSFERS_MAX,
    ENTRY_BYTES_MAX,
    ID_ZERO,
    Transfer,
    TransferFlags,
)
from engine.wire.layout import TRANSFER, rows_to_transfers, transfers_to_rows
from engine.wire.requests import Format, Request, UnreadableEntry, decode_entry

UUID = "00112233-4455-6677-8899-aabbccddeeff"
UUID_BYTES = bytes.fromhex("00112233445566778899aabbccddeeff")
DEBIT = "0190a1b2-0000-7000-8000-000000000001"
DEBIT_BYTES = bytes.fromhex("0190a1b2000070008000000000000001")
CREDIT = "0190a1b2-0000-7000-8000-000000000002"
CREDIT_BYTES = bytes.fromhex("0190a1b2000070008000000000000002")
GOOD = {"amount": 1, "id": UUID}
GOOD_PACKED = {"amount": 1, "id": UUID_BYTES}

BULK = 40
"""Good transfers put around one, so that it is read in columns."""


def one(request: Request) -> Transfer:
    (transfer,) = rows_to_transfers(request.transfers)
    return transfer


def read_json(transfer: object) -> Transfer:
    """Read it alone, at the head of a batch and amid one, which must not differ."""
    alone = decode_entry({b"json": json.dumps(transfer).encode()})
    head = decode_entry({b"json": json.dumps([transfer]).encode()})
    amid = decode_entry({b"json": json.dumps([GOOD] * BULK + [transfer] + [GOOD] * BULK).encode()})
    assert one(alone) == one(head) == rows_to_transfers(amid.transfers)[BULK]
    return one(alone)


def read_mp(transfer: object) -> Transfer:
    pack = msgspec.msgpack.encode
    alone = decode_entry({b"mp": pack(transfer)})
    head = decode_entry({b"mp": pack([transfer])})
    amid = decode_entry({b"mp": pack([GOOD_PACKED] * BULK + [transfer] + [GOOD_PACKED] * BULK)})
    assert one(alone) == one(head) == rows_to_transfers(amid.transfers)[BULK]
    return one(alone)


def refusal(name: bytes, payload: bytes) -> str:
    with pytest.raises(UnreadableEntry) as caught:
        decode_entry({name: payload})
    return caught.value.reason


def refusal_json(transfer: object) -> str:
    """The reason is the same alone and amid a batch, but for the path."""
    alone = refusal(b"json", json.dumps(transfer).encode())
    amid = refusal(b"json", json.dumps([GOOD] * BULK + [transfer] + [GOOD]).encode())
    assert amid == alone.replace("`$", f"`$[{BULK}]") or "- at" not in alone
    return alone


def refusal_mp(transfer: object) -> str:
    pack = msgspec.msgpack.encode
    alone = refusal(b"mp", pack(transfer))
    amid = refusal(b"mp", pack([GOOD_PACKED] * BULK + [transfer] + [GOOD_PACKED]))
    assert amid == alone.replace("`$", f"`$[{BULK}]") or "- at" not in alone
    return alone


# Amounts


@pytest.mark.parametrize(
    ("flags", "amount", "expected"),
    [
        ([], 0, 0),
        ([], 1, 1),
        ([], 2**63 - 1, 2**63 - 1),
        ([], 2**63, 2**63),
        ([], 2**64 - 1, 2**64 - 1),
        ([], 2**64, 2**64),
        ([], 2**127, 2**127),
        ([], 2**128 - 1, 2**128 - 1),
        ([], "max", AMOUNT_MAX),
        (["pending"], "max", AMOUNT_MAX),
        (["post_pending_transfer"], 0, 0),
        (["post_pending_transfer"], None, AMOUNT_MAX),
        (["void_pending_transfer"], None, 0),
        (["void_pending_transfer"], 5, 5),
        (["balancing_debit"], None, AMOUNT_MAX),
        (["balancing_credit"], None, AMOUNT_MAX),
        (["balancing_debit", "balancing_credit", "pending"], None, AMOUNT_MAX),
        (["linked", "void_pending_transfer"], None, 0),
    ],
)
def test_an_amount_is_read_or_is_what_the_flags_mean(flags, amount, expected) -> None:
    written = {"flags": flags} | ({} if amount is None else {"amount": amount})
    assert read_json(written).amount == expected
    if isinstance(amount, int) and amount >= 2**64:
        written["amount"] = amount.to_bytes(16, "big")
    assert read_mp(written).amount == expected


@pytest.mark.parametrize(
    ("amount", "reason"),
    [
        ("-1", "Expected `int` >= 0 - at `$.amount`"),
        (str(2**128), f"Expected `int` <= {AMOUNT_MAX} - at `$.amount`"),
        ("9" * 4000, f"Expected `int` <= {AMOUNT_MAX} - at `$.amount`"),
        ("9" * 100_000, "Integer value out of range - at `$.amount`"),
        ("1.0", "Expected `int | str`, got `float` - at `$.amount`"),
        ("1e3", "Expected `int | str`, got `float` - at `$.amount`"),
        ("1e400", "Number out of range - at `$.amount`"),
        (f"{2**64}.0", "Expected `int | str`, got `float` - at `$.amount`"),
        ("true", "Expected `int | str`, got `bool` - at `$.amount`"),
        ("null", "Expected `int | str`, got `null` - at `$.amount`"),
        ('"1"', "Invalid enum value '1' - at `$.amount`"),
        ('"Max"', "Invalid enum value 'Max' - at `$.amount`"),
        ("[1]", "Expected `int | str`, got `array` - at `$.amount`"),
    ],
)
def test_an_amount_in_json_is_an_integer_of_128_bits_or_max(amount, reason) -> None:
    assert refusal(b"json", b'{"amount":%s}' % amount.encode()) == reason


@pytest.mark.parametrize(
    ("amount", "reason"),
    [
        (-1, "Expected `int` >= 0 - at `$.amount`"),
        (1.0, "Expected `int | bytes | str`, got `float` - at `$.amount`"),
        (True, "Expected `int | bytes | str`, got `bool` - at `$.amount`"),
        (None, "Expected `int | bytes | str`, got `NoneType` - at `$.amount`"),
        ("1", "Expected `int` or `max`, got another `str` - at `$.amount`"),
        (bytes(15), "Expected `bytes` of length 16 - at `$.amount`"),
        (bytes(17), "Expected `bytes` of length 16 - at `$.amount`"),
        ([1], "Expected `int | bytes | str`, got `list` - at `$.amount`"),
    ],
)
def test_an_amount_in_mp_is_an_integer_or_16_bytes_or_max(amount, reason) -> None:
    assert refusal_mp({"amount": amount}) == reason


@pytest.mark.parametrize("flags", [[], ["pending"], ["linked"], ["closing_debit", "pending"]])
def test_an_amount_left_out_where_no_flag_says_what_is_meant_is_unreadable(flags) -> None:
    reason = "Object missing required field `amount` - at `$.amount`"
    assert refusal_json({"flags": flags}) == reason
    assert refusal_mp({"flags": flags}) == reason


# The other fields


def test_what_is_left_out_is_zero() -> None:
    zero = Transfer(id=ID_ZERO, debit_account_id=ID_ZERO, credit_account_id=ID_ZERO, amount=7)
    assert read_json({"amount": 7}) == read_mp({"amount": 7}) == zero


def test_every_field_arrives_in_its_place() -> None:
    written = {
        "id": UUID,
        "debit_account_id": DEBIT,
        "credit_account_id": CREDIT,
        "amount": 4,
        "pending_id": UUID,
        "user_data_128": DEBIT,
        "user_data_64": 2**64 - 1,
        "user_data_32": 2**32 - 1,
        "timeout": 2**32 - 2,
        "ledger": 2**32 - 3,
        "code": 2**16 - 1,
        "flags": ["linked", "pending"],
    }
    uuids = {UUID: UUID_BYTES, DEBIT: DEBIT_BYTES, CREDIT: CREDIT_BYTES}
    packed = {k: uuids[v] if isinstance(v, str) else v for k, v in written.items()}
    assert read_json(written) == read_mp(packed)
    assert read_json(written) == Transfer(
        id=UUID_BYTES,
        debit_account_id=DEBIT_BYTES,
        credit_account_id=CREDIT_BYTES,
        amount=4,
        pending_id=UUID_BYTES,
        user_data_128=DEBIT_BYTES,
        user_data_64=2**64 - 1,
        user_data_32=2**32 - 1,
        timeout=2**32 - 2,
        ledger=2**32 - 3,
        code=2**16 - 1,
        flags=TransferFlags.linked | TransferFlags.pending,
    )


@pytest.mark.parametrize("flag", list(TransferFlags), ids=lambda flag: flag.name)
def test_each_flag_has_its_name_and_bit(flag) -> None:
    assert read_json({"amount": 1, "flags": [flag.name]}).flags == flag
    assert read_mp({"amount": 1, "flags": [flag.name]}).flags == flag


def test_imported_can_be_named_and_is_left_to_the_rules() -> None:
    assert read_json({"amount": 1, "flags": ["imported"]}).flags == 1 << 8


def test_a_flag_named_twice_counts_once() -> None:
    assert read_json({"amount": 1, "flags": ["linked", "linked"]}).flags == TransferFlags.linked


def test_no_flags_is_the_same_as_flags_left_out() -> None:
    assert read_json({"amount": 1, "flags": []}) == read_json({"amount": 1})


@pytest.mark.parametrize("text", [UUID.upper(), UUID, "00112233-4455-6677-8899-AABBccddEEFF"])
def test_a_uuid_is_read_in_any_case(text) -> None:
    assert read_json({"amount": 1, "id": text}).id == UUID_BYTES


@pytest.mark.parametrize("field", ["id", "debit_account_id", "credit_account_id", "pending_id"])
@pytest.mark.parametrize(
    "text",
    [
        "00112233-4455-6677-8899-aabbccddeefg",
        "0011223-34455-6677-8899-aabbccddeeff",
        "00112233-4455-6677-8899-aabbccddee-f",
        "00112233-4455-6677-8899-aabbccddee f",
        "001122334455-6677-8899-aabbccdd-eeff",
        "00112233_4455_6677_8899_aabbccddeeff",
        "------------------------------------",
        "00112233-4455-6677-8899-aabbccddee\u0660f",
        "00112233-4455-6677-8899-aabbccddee\u00e9f",
        "{0112233-4455-6677-8899-aabbccddeef}",
        "0x112233-4455-6677-8899-aabbccddeeff",
    ],
)
def test_36_characters_that_are_no_uuid_are_unreadable(field, text) -> None:
    reason = refusal_json({"amount": 1, field: text})
    assert reason == f"Expected `uuid` written 8-4-4-4-12 - at `$.{field}`"


def test_texts_of_dashes_do_not_take_the_value_of_their_neighbour() -> None:
    batch = [{"amount": 1, "id": "-" * 36}] * BULK + [GOOD]
    reason = refusal(b"json", json.dumps(batch).encode())
    assert reason == "Expected `uuid` written 8-4-4-4-12 - at `$[0].id`"


@pytest.mark.parametrize(
    "text",
    ["", UUID.replace("-", ""), "{" + UUID + "}", "urn:uuid:" + UUID, UUID + " ", UUID[:-1]],
)
def test_a_uuid_of_another_length_is_unreadable(text) -> None:
    assert "of length" in refusal_json({"amount": 1, "user_data_128": text})


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("id", None, "Expected `str`, got `null` - at `$.id`"),
        ("id", 1, "Expected `str`, got `int` - at `$.id`"),
        ("pending_id", [], "Expected `str`, got `array` - at `$.pending_id`"),
        ("user_data_64", -1, "Expected `int` >= 0 - at `$.user_data_64`"),
        ("user_data_64", 2**64, f"Expected `int` <= {2**64 - 1} - at `$.user_data_64`"),
        ("user_data_64", 10**30, f"Expected `int` <= {2**64 - 1} - at `$.user_data_64`"),
        ("user_data_32", 2**32, f"Expected `int` <= {2**32 - 1} - at `$.user_data_32`"),
        ("timeout", 2**32, f"Expected `int` <= {2**32 - 1} - at `$.timeout`"),
        ("timeout", None, "Expected `int`, got `null` - at `$.timeout`"),
        ("ledger", 2**32, f"Expected `int` <= {2**32 - 1} - at `$.ledger`"),
        ("ledger", -1, "Expected `int` >= 0 - at `$.ledger`"),
        ("ledger", 1.0, "Expected `int`, got `float` - at `$.ledger`"),
        ("ledger", "1", "Expected `int`, got `str` - at `$.ledger`"),
        ("code", 2**16, f"Expected `int` <= {2**16 - 1} - at `$.code`"),
        ("code", True, "Expected `int`, got `bool` - at `$.code`"),
        ("flags", "linked", "Expected `array`, got `str` - at `$.flags`"),
        ("flags", None, "Expected `array`, got `null` - at `$.flags`"),
        ("flags", 1, "Expected `array`, got `int` - at `$.flags`"),
        ("flags", [1], "Expected `str`, got `int` - at `$.flags[0]`"),
        ("flags", ["linked", "huge"], "Invalid enum value 'huge' - at `$.flags[1]`"),
        ("flags", ["Linked"], "Invalid enum value 'Linked' - at `$.flags[0]`"),
        ("timestamp", 0, "Object contains unknown field `timestamp`"),
        ("ammount", 1, "Object contains unknown field `ammount`"),
        ("Amount", 1, "Object contains unknown field `Amount`"),
    ],
)
def test_a_field_in_json_is_refused_when(field, value, reason) -> None:
    assert refusal_json({"amount": 1, field: value}) == reason


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("id", UUID, "Expected `bytes`, got `str` - at `$.id`"),
        ("id", bytes(15), "Expected `bytes` of length >= 16 - at `$.id`"),
        ("id", bytes(17), "Expected `bytes` of length <= 16 - at `$.id`"),
        ("user_data_128", b"", "Expected `bytes` of length >= 16 - at `$.user_data_128`"),
        ("pending_id", None, "Expected `bytes`, got `None` - at `$.pending_id`"),
        ("user_data_64", -1, "Expected `int` >= 0 - at `$.user_data_64`"),
        ("user_data_32", 2**32, f"Expected `int` <= {2**32 - 1} - at `$.user_data_32`"),
        ("timeout", 1.0, "Expected `int`, got `float` - at `$.timeout`"),
        ("ledger", b"1", "Expected `int`, got `bytes` - at `$.ledger`"),
        ("code", 2**16, f"Expected `int` <= {2**16 - 1} - at `$.code`"),
        ("code", False, "Expected `int`, got `bool` - at `$.code`"),
        ("flags", 2, "Expected `array`, got `int` - at `$.flags`"),
        ("flags", ["huge"], "Invalid enum value 'huge' - at `$.flags[0]`"),
        ("timestamp", 0, "Object contains unknown field `timestamp`"),
    ],
)
def test_a_field_in_mp_is_refused_when(field, value, reason) -> None:
    assert refusal_mp({"amount": 1, field: value}) == reason


def test_a_field_that_stands_twice_is_refused_in_json() -> None:
    twice = b'{"amount":1,"amount":1}'
    assert refusal(b"json", twice) == "Object contains field `amount` twice - at `$`"
    batch = b'[{"amount":1},' + twice + b"]"
    assert refusal(b"json", batch) == "Object contains field `amount` twice - at `$[1]`"
    escaped = b'{"amount":1,"\\u0061mount":1}'
    assert refusal(b"json", escaped) == "Object contains field `amount` twice - at `$`"


def test_a_field_that_stands_twice_is_refused_in_mp() -> None:
    twice = b"\x82\xa6amount\x01\xa6amount\x01"
    assert refusal(b"mp", twice) == "Object contains a field twice - at `$`"
    assert refusal(b"mp", b"\x91" + twice) == "Object contains a field twice - at `$[0]`"
    for head in (b"\xde\0\2", b"\xdf\0\0\0\2"):
        assert refusal(b"mp", head + twice[1:]) == "Object contains a field twice - at `$`"


@pytest.mark.parametrize(
    "packed",
    [
        b"\x81\xa6amount\xcf\0\0\0\0\0\0\0\1",
        b"\x81\xa6amount\xd3\0\0\0\0\0\0\0\1",
        b"\x81\xd9\x06amount\x01",
        b"\xde\0\1\xa6amount\x01",
        b"\xdf\0\0\0\1\xa6amount\x01",
        b"\xdd\0\0\0\1\x81\xa6amount\x01",
        b"\x81\xa6amount\xc4\x10" + bytes(15) + b"\1",
    ],
)
def test_mp_need_not_be_in_its_shortest_form(packed) -> None:
    assert one(decode_entry({b"mp": packed})).amount == 1


def test_json_may_have_spaces_and_escapes() -> None:
    written = b' [ { "\\u0061mount" : 1 , "flags" : [ "lin\\u006bed" ] } ] \n'
    assert one(decode_entry({b"json": written})).flags == TransferFlags.linked


# bin


def test_bin_is_rows_with_timestamps_ignored_and_all_flags_let_through() -> None:
    sent = Transfer(
        id=UUID_BYTES,
        debit_account_id=DEBIT_BYTES,
        credit_account_id=CREDIT_BYTES,
        amount=2**100,
        flags=0xFFFF,
        timestamp=99,
    )
    read = decode_entry({b"bin": transfers_to_rows([sent, sent]).tobytes()})
    assert read.transfers.dtype == TRANSFER
    assert rows_to_transfers(read.transfers) == [msgspec.structs.replace(sent, timestamp=0)] * 2


@pytest.mark.parametrize("size", [1, 127, 129, 255])
def test_bin_that_is_no_whole_number_of_transfers_is_truncated(size) -> None:
    assert refusal(b"bin", bytes(size)).startswith("truncated")


# The entry


@pytest.mark.parametrize(("name", "payload"), [(b"json", b"[]"), (b"mp", b"\x90"), (b"bin", b"")])
def test_an_entry_may_be_empty(name, payload) -> None:
    rows = decode_entry({name: payload}).transfers
    assert rows.shape == (0,)
    assert rows.dtype == TRANSFER


@pytest.mark.parametrize(
    ("name", "payload", "reason"),
    [
        (b"json", b"", "Input data was truncated"),
        (b"json", b"1", "Expected `object | array`, got `int`"),
        (b"json", b"null", "Expected `object | array`, got `null`"),
        (b"json", b"[1]", "Expected `object`, got `int` - at `$[0]`"),
        (b"json", b"[[]]", "Expected `object`, got `array` - at `$[0]`"),
        (b"json", b'{"amount":1}x', "JSON is malformed: trailing characters (byte 13)"),
        (b"json", b'{"amount":01}', "JSON is malformed: invalid number (byte 11)"),
        (b"json", b'{"amount":NaN}', "JSON is malformed: invalid character (byte 10)"),
        (b"json", b"\xef\xbb\xbf[]", "JSON is malformed: invalid character (byte 0)"),
        (b"json", b"[" * 1_000_000, "Expected `object`, got `array` - at `$[0]`"),
        (b"json", b'{"\\u0000":1}', "Object contains unknown field `\\x00`"),
        (b"mp", b"", "Input data was truncated"),
        (b"mp", b"\xc0", "Expected `object | array`, got `None`"),
        (b"mp", b"\x90\x90", "MessagePack data is malformed: trailing characters (byte 1)"),
        (b"mp", b"\xdd\xff\xff\xff\xff", "Expected `array` of length <= 8189"),
        (b"mp", b"\xdf\xff\xff\xff\xff", "Input data was truncated"),
        (b"mp", b"\x81\xa6amount" + b"\x91" * 1_000_000, "Nested too deeply"),
        (b"mp", b"\x81\xa6amount\xdd\xff\xff\xff\xff", "Input data was truncated"),
        (b"mp", b"\x81\xa5flags\xdd\xff\xff\xff\xff", "Input data was truncated"),
        (b"mp", b"\x81\x01\x01", "Expected `str`, got `int` - at `key` in `$`"),
    ],
)
def test_a_payload_is_refused_with_the_reason(name, payload, reason) -> None:
    assert refusal(name, payload) == reason


@pytest.mark.parametrize("payload", [b'{"\xff":1}', b'{"id":"\xff"}', b'{"\\ud800":1}'])
def test_text_that_is_no_unicode_is_refused(payload) -> None:
    assert refusal(b"json", payload)


def test_a_reason_is_printable_and_short_whatever_the_entry_holds() -> None:
    name = "\u0000\u001b[31m\u2028" + "x" * 100_000
    reason = refusal(b"json", json.dumps({name: 1}).encode())
    assert reason.isprintable()
    assert len(reason) < 1000


def test_a_batch_of_the_maximum_is_read_and_one_more_refused() -> None:
    for name, item in (
        (b"json", b'{"amount":1}'),
        (b"mp", b"\x81\xa6amount\1"),
        (b"bin", bytes(128)),
    ):
        for count in (BATCH_TRANSFERS_MAX, BATCH_TRANSFERS_MAX + 1):
            payload = {
                b"json": b"[" + b",".join([item] * count) + b"]",
                b"mp": b"\xdc" + count.to_bytes(2, "big") + item * count,
                b"bin": item * count,
            }[name]
            if count == BATCH_TRANSFERS_MAX:
                assert len(decode_entry({name: payload}).transfers) == count
            else:
                assert str(BATCH_TRANSFERS_MAX) in refusal(name, payload)


def test_a_payload_of_2_mib_is_read_and_one_byte_more_refused() -> None:
    text = b'{"amount":1}'
    assert one(decode_entry({b"json": text.ljust(ENTRY_BYTES_MAX)})).amount == 1
    reason = refusal(b"json", text.ljust(ENTRY_BYTES_MAX + 1))
    assert reason == "Expected at most 2097152 bytes, got 2097153"
    assert refusal(b"bin", bytes(ENTRY_BYTES_MAX + 128)).startswith("Expected at most")
    assert refusal(b"mp", bytes(ENTRY_BYTES_MAX + 1)).startswith("Expected at most")


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        ([], "Expected one of json, mp, bin, got none"),
        ([b"json", b"bin"], "Expected one of json, mp, bin, got json and bin"),
        ([b"json", b"mp", b"bin"], "Expected one of json, mp, bin, got json and mp and bin"),
    ],
)
def test_an_entry_has_exactly_one_format(names, reason) -> None:
    with pytest.raises(UnreadableEntry) as caught:
        decode_entry(dict.fromkeys(names, b"") | {b"request": b"r"})
    assert caught.value.reason == reason
    assert caught.value.format is None
    assert caught.value.request == b"r"


def test_the_fields_of_others_are_let_be() -> None:
    fields = {b"traceparent": b"00-1-2-01", b"bin": b"", b"JSON": b"x"}
    assert decode_entry(fields).format is Format.bin


def test_reply_and_request_are_kept_as_they_came() -> None:
    fields = {b"json": b"[]", b"reply": b"engine:answers:7", b"request": b"\xff\0"}
    read = decode_entry(fields)
    assert (read.reply, read.request, read.format) == (b"engine:answers:7", b"\xff\0", Format.json)


@pytest.mark.parametrize(
    ("prefix", "reply", "inside"),
    [
        ("engine", b"engine:answers:1", True),
        ("engine", b"engine:answers:{7}", True),
        ("bank", b"bank:answers:1", True),
        ("bank", b"engine:answers:1", False),
        ("engine", b"engine:answers:", False),
        ("engine", b"engine:answers", False),
        ("engine", b"engine:transfers:{0000}", False),
        ("engine", b"ENGINE:answers:1", False),
        ("engine", b"", False),
    ],
)
def test_a_reply_is_a_stream_under_the_prefix(prefix, reply, inside) -> None:
    fields = {b"json": b"[]", b"reply": reply, b"request": b"r"}
    if inside:
        assert decode_entry(fields, prefix=prefix).reply == reply
        with pytest.raises(UnreadableEntry) as caught:
            decode_entry(fields | {b"json": b"x"}, prefix=prefix)
        assert caught.value.reply == reply
    else:
        with pytest.raises(UnreadableEntry) as caught:
            decode_entry(fields, prefix=prefix)
        assert caught.value.reason.startswith("reply is no stream under")
        assert caught.value.reply is None  # Nothing is written where we do not belong.
        assert caught.value.format is Format.json
    assert isinstance(caught.value, InputError)
    assert caught.value.request == b"r"


def test_deep_nesting_is_refused_from_deep_in_the_stack_too() -> None:
    def dive(depth: int) -> str:
        if depth:
            return dive(depth - 1)
        return refusal(b"mp", b"\x81\xa6amount" + b"\x91" * 500)

    assert dive(sys.getrecursionlimit() // 2)


def test_rows_of_a_request_can_be_written_to() -> None:
    for fields in ({b"bin": bytes(128)}, {b"json": b'{"amount":1}'}, {b"mp": b"\x81\xa6amount\1"}):
        rows = decode_entry(fields).transfers
        rows["timestamp"] = 5
        assert rows["timestamp"].tolist() == [5]
        assert rows.dtype == TRANSFER
        assert isinstance(rows, np.ndarray)
