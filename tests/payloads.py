"""Payloads of an entry, read or refused in every place where they may stand."""

import json

import msgspec
import pytest

from engine.ledger.nouns import Transfer
from engine.wire.layout import rows_to_transfers
from engine.wire.requests import Request, UnreadableEntry, decode_entry

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
