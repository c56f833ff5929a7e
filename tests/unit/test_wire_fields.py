"""The fields of a transfer as tables: a row per payload, the last column what becomes of it."""

import json

import pytest

from engine.ledger.nouns import ID_ZERO, Transfer, TransferFlags
from engine.wire.requests import decode_entry
from tests.payloads import (
    BULK,
    CREDIT,
    CREDIT_BYTES,
    DEBIT,
    DEBIT_BYTES,
    GOOD,
    UUID,
    UUID_BYTES,
    one,
    read_json,
    read_mp,
    refusal,
    refusal_json,
    refusal_mp,
)


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
