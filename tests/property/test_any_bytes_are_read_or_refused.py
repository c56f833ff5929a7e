"""Whatever the bytes of an entry, it is read whole or refused with `UnreadableEntry`."""

import json

import msgspec
from hypothesis import example, given
from hypothesis import strategies as st

from engine.ledger.nouns import BATCH_TRANSFERS_MAX
from engine.wire.layout import TRANSFER
from engine.wire.requests import UnreadableEntry, decode_entry
from tests.fuzz.decoders import DECODERS

UUID = "00112233-4455-6677-8899-aabbccddeeff"
GOOD_JSON = json.dumps([{"id": UUID, "amount": 1, "flags": ["linked"], "ledger": 1}] * 20).encode()
GOOD_MP = msgspec.msgpack.encode([{"id": bytes(16), "amount": 1, "flags": ["linked"]}] * 20)

NAMES = ["id", "amount", "flags", "user_data_64", "user_data_128", "code", "timeout"]
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(),
    st.text(max_size=40),
    st.binary(max_size=20),
    st.sampled_from(["max", UUID, "linked"]),
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.one_of(st.text(max_size=5), st.integers(0, 9)), inner, max_size=3),
    ),
    max_leaves=8,
)
transfers = st.dictionaries(st.sampled_from(NAMES), values, max_size=4)
documents = st.one_of(
    values,
    transfers,
    st.lists(transfers, max_size=3),
    st.lists(transfers, min_size=16, max_size=18),
)


def read_or_refuse(entry: dict[bytes, bytes]) -> None:
    try:
        rows = decode_entry(entry).transfers
    except UnreadableEntry as error:
        reason = error.reason
    else:
        assert rows.dtype == TRANSFER
        assert len(rows) <= BATCH_TRANSFERS_MAX
        return
    assert reason.encode()
    assert reason.isprintable()


@given(st.binary(max_size=400), st.sampled_from([b"json", b"mp", b"bin"]))
@example(b"\x81\xa6amount\x81\x80\x90", b"mp")
@example(b"\x81\xa6amount\x81\xd7\xff\xff\xff\xff\xff\xff\xff\xff\xff\x00", b"mp")
@example(b"[" * 100_000, b"json")
@example(b'{"a":' * 100_000, b"json")
@example(b"\x81\xa6amount" + b"\x81\x91" * 100_000, b"mp")
def test_random_bytes(payload, name) -> None:
    read_or_refuse({name: payload})


@given(st.binary(max_size=400), st.sampled_from(sorted(DECODERS)))
@example(b"[::1]:5432/engine?connect_timeout=1e999", "dsn")
@example(b"\x01\x91\xcf\xff\xff\xff\xff\xff\xff\xff\xff", "answer")
def test_whatever_reads_bytes_of_strangers(payload, name) -> None:
    DECODERS[name](payload)


@given(st.text(max_size=80), st.text(max_size=20))
def test_addresses_of_any_text(text, more) -> None:
    DECODERS["dsn"](f"{text}@{more}:5432/{text}?{more}=1".encode(errors="ignore"))


@given(documents)
def test_documents_of_wrong_shapes(document) -> None:
    read_or_refuse({b"mp": msgspec.msgpack.encode(document)})
    read_or_refuse({b"json": msgspec.json.encode(document)})


@given(st.data(), st.sampled_from([(b"json", GOOD_JSON), (b"mp", GOOD_MP)]))
def test_good_bytes_with_some_overwritten_removed_or_added(data, good) -> None:
    name, payload = good
    start = data.draw(st.integers(0, len(payload)))
    end = data.draw(st.integers(start, min(start + 5, len(payload))))
    piece = data.draw(st.one_of(st.binary(max_size=5), st.sampled_from([b"-", b'"', b"{}", b":"])))
    read_or_refuse({name: payload[:start] + piece + payload[end:]})


@given(
    st.dictionaries(
        st.one_of(
            st.sampled_from([b"json", b"mp", b"bin", b"reply", b"request"]), st.binary(max_size=4)
        ),
        st.one_of(st.binary(max_size=20), st.just(b"engine:answers:1"), st.just(b"[]")),
    ),
)
def test_any_fields(entry) -> None:
    read_or_refuse(entry)
