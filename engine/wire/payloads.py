"""The payload of an entry, in each of its three formats, read as rows: whole or not at all."""

import json
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final, TypeAlias

import msgspec
import numpy as np
from msgspec import Meta

from engine.errors import InputError
from engine.ledger.nouns import BATCH_TRANSFERS_MAX, ENTRY_BYTES_MAX, Transfer
from engine.wire.columns import rows_of
from engine.wire.fields import JsonTransfer, PackedTransfer, WrittenTransfer, path_of, transfer_of
from engine.wire.layout import TRANSFER, TRANSFER_BYTES, Rows, transfers_to_rows

REASON_CHARACTERS_MAX: Final = 500

_Written: TypeAlias = WrittenTransfer[Any, Any]
_Batch: TypeAlias = list[_Written] | _Written

_Size = Meta(max_length=BATCH_TRANSFERS_MAX)
_decode_json: Final = msgspec.json.Decoder(Annotated[list[JsonTransfer], _Size] | JsonTransfer)
_decode_line: Final = msgspec.json.Decoder(JsonTransfer)
_decode_mp: Final = msgspec.msgpack.Decoder(
    Annotated[list[PackedTransfer], _Size] | PackedTransfer,
)
_encode_json: Final = msgspec.json.Encoder()
_encode_mp: Final = msgspec.msgpack.Encoder()


def read_json(payload: bytes) -> Rows:
    """Read a transfer object or an array of them.

    Raises:
        InputError: When a part of it cannot be read; it says which (`$[3].amount`).
    """
    return _rows(_decoded(_decode_json.decode, payload, _refuse_twice_json))


def read_mp(payload: bytes) -> Rows:
    """Read a transfer map or an array of them.

    Raises:
        InputError: When a part of it cannot be read; it says which (`$[3].amount`).
    """
    return _rows(_decoded(_decode_mp.decode, payload, _refuse_twice_mp))


def read_bin(payload: bytes) -> Rows:
    """Read packed transfers. Bits of the flags are not looked at; timestamps become zero.

    Raises:
        InputError: When the last one is truncated, or when there are too many of them.
    """
    _refuse_oversize(payload)
    count, rest = divmod(len(payload), TRANSFER_BYTES)
    if rest:
        raise InputError(f"truncated: {len(payload)} bytes are no multiple of {TRANSFER_BYTES}")
    if count > BATCH_TRANSFERS_MAX:
        raise InputError(f"Expected at most {BATCH_TRANSFERS_MAX} transfers, got {count}")
    rows = np.frombuffer(bytearray(payload), TRANSFER)
    rows["timestamp"] = 0
    return rows


def read_json_line(line: bytes) -> Transfer:
    """Read one transfer object.

    Raises:
        InputError: When a part of it cannot be read; it says which (`$.amount`).
    """
    return transfer_of(_decoded(_decode_line.decode, line, _refuse_twice_json))


def read_mapping(fields: Mapping[str, Any]) -> Transfer:
    """Read one transfer from the values that JSON would give.

    Raises:
        InputError: When a part of it cannot be read; it says which (`$.amount`).
    """
    try:
        written = msgspec.convert(fields, JsonTransfer)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise InputError(_reason_of(error)) from None
    return transfer_of(written)


def _rows(written: _Batch) -> Rows:
    if isinstance(written, list):
        return rows_of(written)
    return transfers_to_rows([transfer_of(written)])


def _decoded(
    decode: Callable[[bytes], Any],
    payload: bytes,
    refuse_twice: Callable[[bytes, Any], None],
) -> Any:
    _refuse_oversize(payload)
    try:
        written = decode(payload)
        refuse_twice(payload, written)
    except (msgspec.MsgspecError, ValueError, TypeError, RecursionError) as error:
        # TypeError: msgspec before 0.20 has it for a map as the key of a map.
        raise InputError(_reason_of(error)) from None
    return written


def _refuse_oversize(payload: bytes) -> None:
    if len(payload) > ENTRY_BYTES_MAX:
        raise InputError(f"Expected at most {ENTRY_BYTES_MAX} bytes, got {len(payload)}")


def _refuse_twice_json(payload: bytes, written: _Batch) -> None:
    """Refuse a field that stands twice in a transfer: msgspec takes the last one silently.

    Once read, no name and no value has a colon in it (a uuid might, and is refused later), so
    that colons count the fields; written anew, each field stands once.
    """
    if payload.count(b":") == _encode_json.encode(written).count(b":"):
        return

    transfers = json.loads(payload, object_pairs_hook=list)  # Pairs, in place of dicts.
    for index, pairs in enumerate(transfers if isinstance(written, list) else [transfers]):
        names = [name for name, _ in pairs]
        if len(names) != len(set(names)):
            twice = next(name for name in names if names.count(name) > 1)
            path = path_of(index if isinstance(written, list) else None)
            raise ValueError(f"Object contains field `{twice}` twice - at `{path}`")


def _refuse_twice_mp(payload: bytes, written: _Batch) -> None:
    """Refuse the same in MessagePack.

    What was read, in its shortest form, is as long as the payload; or a field stands twice, or
    the payload is not in the shortest form. Then the fields are counted.
    """
    if len(payload) == len(_encode_mp.encode(written)):
        return
    if not isinstance(written, list):
        _refuse_twice_in_map(payload, None)
        return
    for index, raw in enumerate(msgspec.msgpack.decode(payload, type=list[msgspec.Raw])):
        _refuse_twice_in_map(bytes(raw), index)


def _refuse_twice_in_map(packed: bytes, index: int | None) -> None:
    fields = msgspec.msgpack.decode(packed, type=dict[str, msgspec.Raw])
    match packed[0]:
        case 0xDE:
            written = int.from_bytes(packed[1:3], "big")
        case 0xDF:
            written = int.from_bytes(packed[1:5], "big")
        case head:
            written = head & 0x0F
    if written != len(fields):
        raise ValueError(f"Object contains a field twice - at `{path_of(index)}`")


def _reason_of(error: BaseException) -> str:
    """What is wrong, in characters that any log and any database takes, at a bounded length."""
    if isinstance(error, RecursionError):
        return "Nested too deeply"
    reason = str(error)[:REASON_CHARACTERS_MAX]
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in reason)
