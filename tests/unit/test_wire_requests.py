"""The rules of an entry as tables: a row per payload, the last column what becomes of it."""

import json
import sys

import msgspec
import numpy as np
import pytest

from engine.errors import InputError
from engine.ledger.nouns import BATCH_TRANSFERS_MAX, ENTRY_BYTES_MAX, Transfer
from engine.wire.layout import TRANSFER, rows_to_transfers, transfers_to_rows
from engine.wire.requests import Format, UnreadableEntry, decode_entry
from tests.payloads import CREDIT_BYTES, DEBIT_BYTES, UUID_BYTES, one, refusal

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
