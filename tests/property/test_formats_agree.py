"""The same transfers, written as json, mp and bin, are read as the same rows.

The writer here is independent of the engine's: `json`, `uuid` and `struct` of Python.
"""

import json
import struct
import uuid
from unittest import mock

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from engine.ledger.nouns import AMOUNT_MAX, Transfer
from engine.wire import columns
from engine.wire.entries import encode_entry
from engine.wire.layout import rows_to_transfers, transfers_to_rows
from engine.wire.requests import Format, UnreadableEntry, decode_entry

FLAGS = {
    "linked": 1,
    "pending": 2,
    "post_pending_transfer": 4,
    "void_pending_transfer": 8,
    "balancing_debit": 16,
    "balancing_credit": 32,
    "closing_debit": 64,
    "closing_credit": 128,
    "imported": 256,
}
IDS = ["id", "debit_account_id", "credit_account_id", "pending_id", "user_data_128"]
BITS = {"user_data_64": 64, "user_data_32": 32, "timeout": 32, "ledger": 32, "code": 16}


def number(bits: int) -> st.SearchStrategy[int]:
    edges = [0, 1, 2 ** (bits - 1) - 1, 2 ** (bits - 1), 2**bits - 1]
    return st.one_of(st.sampled_from(edges), st.integers(0, 2**bits - 1), st.integers(0, 1000))


ids = st.one_of(
    st.sampled_from([bytes(16), b"\xff" * 16, b"\1" + bytes(15)]),
    st.binary(min_size=16, max_size=16),
)
flags = st.lists(st.sampled_from(sorted(FLAGS)), max_size=3)
fields = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(IDS, ids)
    | {name: number(bits) for name, bits in BITS.items()}
    | {"amount": st.one_of(number(64), number(128), st.just("max")), "flags": flags},
)
batches = st.one_of(
    st.lists(fields, max_size=3),
    st.lists(fields, min_size=columns.COLUMNS_PAY_FROM, max_size=columns.COLUMNS_PAY_FROM + 4),
)


def bits_of(transfer: dict) -> int:
    return sum(FLAGS[name] for name in set(transfer.get("flags", [])))


def meant(transfer: dict) -> int | None:
    """The amount of section 8: what leaving it out means, and None where that is an error."""
    if "amount" in transfer:
        return AMOUNT_MAX if transfer["amount"] == "max" else transfer["amount"]
    if bits_of(transfer) & (4 | 16 | 32):
        return AMOUNT_MAX
    return 0 if bits_of(transfer) & 8 else None


def as_json(transfer: dict) -> dict:
    return {k: str(uuid.UUID(bytes=v)) if k in IDS else v for k, v in transfer.items()}


def as_mp(transfer: dict) -> dict:
    amount = transfer.get("amount", 0)
    large = isinstance(amount, int) and amount >= 2**64
    return transfer | ({"amount": amount.to_bytes(16, "big")} if large else {})


def as_bin(transfer: dict) -> bytes:
    get = transfer.get
    return (
        b"".join(get(name, bytes(16)) for name in IDS[:3])
        + meant(transfer).to_bytes(16, "little")
        + b"".join(get(name, bytes(16)) for name in IDS[3:])
        + struct.pack(
            "<QIIIHHQ", *[get(name, 0) for name in BITS], bits_of(transfer), 0x1122334455667788
        )
    )


def read_or_refuse(entry: dict[bytes, bytes]) -> bytes | str:
    try:
        return decode_entry(entry).transfers.tobytes()
    except UnreadableEntry as error:
        return error.reason


@given(batches)
def test_json_mp_and_bin_of_the_same_transfers_are_the_same_rows(batch) -> None:
    as_text = {b"json": json.dumps([as_json(t) for t in batch]).encode()}
    packed = {b"mp": msgspec.msgpack.encode([as_mp(t) for t in batch])}
    first_without = next((i for i, t in enumerate(batch) if meant(t) is None), None)
    if first_without is not None:
        reason = f"Object missing required field `amount` - at `$[{first_without}].amount`"
        assert read_or_refuse(as_text) == read_or_refuse(packed) == reason
        return
    rows = decode_entry({b"bin": b"".join(as_bin(t) for t in batch)}).transfers
    assert rows["timestamp"].tolist() == [0] * len(batch)
    assert read_or_refuse(as_text) == read_or_refuse(packed) == rows.tobytes()
    for transfer, written in zip(rows_to_transfers(rows), batch, strict=True):
        assert transfer.amount == meant(written)
        assert transfer.flags == bits_of(written)
        for name in [*IDS, *BITS]:
            assert getattr(transfer, name) == written.get(name, bytes(16) if name in IDS else 0)


@given(batches)
def test_columns_read_what_the_plain_rules_read(batch) -> None:
    entries = [
        {b"json": json.dumps([as_json(t) for t in batch]).encode()},
        {b"mp": msgspec.msgpack.encode([as_mp(t) for t in batch])},
    ]
    for entry in entries:
        with mock.patch.object(columns, "COLUMNS_PAY_FROM", 1):
            in_columns = read_or_refuse(entry)
        with mock.patch.object(columns, "COLUMNS_PAY_FROM", 10**9):
            assert read_or_refuse(entry) == in_columns


transfers = st.builds(
    Transfer,
    id=ids,
    debit_account_id=ids,
    credit_account_id=ids,
    amount=st.one_of(number(64), number(128)),
    pending_id=ids,
    user_data_128=ids,
    user_data_64=number(64),
    user_data_32=number(32),
    timeout=number(32),
    ledger=number(32),
    code=number(16),
    flags=st.integers(0, 2**9 - 1),
)


@given(st.lists(transfers, max_size=20), st.sampled_from(Format))
def test_what_a_producer_writes_is_what_is_read(batch, form) -> None:
    rows = transfers_to_rows(batch)
    assert rows_to_transfers(rows) == batch
    assert decode_entry(encode_entry(rows, form)).transfers.tobytes() == rows.tobytes()


@given(st.lists(st.lists(st.sampled_from(["ledger", "code", "timeout"]), max_size=4), max_size=20))
def test_a_field_that_stands_twice_is_always_found(names_of_each) -> None:
    pairs = [[*names, "amount"] for names in names_of_each]
    text = ",".join("{" + ",".join(f' "{name}" : 1' for name in names) + "}" for names in pairs)
    packed = b"\xdc" + len(pairs).to_bytes(2, "big")
    for names in pairs:
        packed += bytes([0x80 | len(names)])
        packed += b"".join(bytes([0xA0 | len(name)]) + name.encode() + b"\1" for name in names)
    twice = any(len(set(names)) < len(names) for names in pairs)
    for entry in ({b"json": b"[%s]" % text.encode()}, {b"mp": packed}):
        answer = read_or_refuse(entry)
        assert ("twice" in answer) if twice else isinstance(answer, bytes)
