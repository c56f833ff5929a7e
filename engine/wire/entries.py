"""The producer's side: transfers written as an entry, and read from the lines of a file."""

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

import msgspec
from msgspec import UNSET

from engine.errors import InputError
from engine.ledger.nouns import AMOUNT_MAX, BATCH_TRANSFERS_MAX, ENTRY_BYTES_MAX, ID_ZERO, Transfer
from engine.wire.csv_rows import read_row
from engine.wire.fields import (
    LEFT_OUT,
    U64_MAX,
    WrittenTransfer,
    names_of,
    uuid_text,
)
from engine.wire.layout import Rows, rows_to_transfers
from engine.wire.payloads import read_json_line, read_mapping
from engine.wire.requests import Format

_Id = TypeVar("_Id", str, bytes)
_Amount = TypeVar("_Amount")

_encode_json: Final = msgspec.json.Encoder()
_encode_mp: Final = msgspec.msgpack.Encoder()

_CSV_NUMBERS: Final = frozenset(
    {"amount", "user_data_64", "user_data_32", "timeout", "ledger", "code"},
)
CSV_COLUMNS: Final = frozenset(WrittenTransfer.__struct_fields__)


def encode_entry(
    rows: Rows,
    format: Format,  # noqa: A002 - the word of the field
    *,
    reply: bytes | None = None,
    request: bytes | None = None,
) -> dict[bytes, bytes]:
    """Write transfers as the fields of one entry; their timestamps are not sent.

    Args:
        rows: At most 8,189 transfers, of dtype `TRANSFER`.
        format: How to write them; `bin` is by far the fastest.
        reply: The stream that shall get the answer, under `{prefix}:answers:`.
        request: An id of one's own that the answer echoes.

    Raises:
        InputError: When it would be over the size of an entry (send fewer), or has bits in
            its flags that only `bin` can carry.
    """
    if len(rows) > BATCH_TRANSFERS_MAX:
        raise InputError(f"{len(rows)} transfers in an entry; send {BATCH_TRANSFERS_MAX} at most")
    match format:
        case Format.json:
            payload = _encode_json.encode([_json_of(t) for t in rows_to_transfers(rows)])
        case Format.mp:
            payload = _encode_mp.encode([_packed_of(t) for t in rows_to_transfers(rows)])
        case _:  # Format.bin, as in `answers`
            payload = rows.tobytes()
    if len(payload) > ENTRY_BYTES_MAX:
        raise InputError(
            f"{len(rows)} transfers are {len(payload)} bytes of {format.name}, and an entry has "
            f"{ENTRY_BYTES_MAX} at most; send fewer, or as bin",
        )
    entry = {format.name.encode(): payload}
    if reply is not None:
        entry[b"reply"] = reply
    if request is not None:
        entry[b"request"] = request
    return entry


def parse_transfer_json(line: bytes | Mapping[str, Any]) -> Transfer:
    """Read one transfer from a line of JSON, or from the mapping that it stands for.

    Raises:
        InputError: When it cannot be read as in an entry; the message says where (`$.amount`).
    """
    return read_json_line(line) if isinstance(line, bytes) else read_mapping(line)


def parse_transfer_csv_row(row: Mapping[Any, str | None]) -> Transfer:
    """Read one transfer from a row as `read_row` takes it; columns are named as the fields.

    Raises:
        InputError: When it cannot be read; the message says where (`$.amount`).
    """
    return read_mapping(read_row(row, CSV_COLUMNS, _CSV_NUMBERS))


def _json_of(t: Transfer) -> WrittenTransfer[str, int | str]:
    return _written(t, uuid_text, "max" if t.amount == AMOUNT_MAX else t.amount)


def _packed_of(t: Transfer) -> WrittenTransfer[bytes, int | bytes]:
    return _written(t, bytes, t.amount if t.amount <= U64_MAX else t.amount.to_bytes(16, "big"))


def _written(
    t: Transfer,
    write_id: Callable[[bytes], _Id],
    amount: _Amount,
) -> WrittenTransfer[_Id, _Amount]:
    """The amount is always written, since leaving it out means more than zero."""
    return WrittenTransfer(
        write_id(t.id),
        write_id(t.debit_account_id),
        write_id(t.credit_account_id),
        amount,
        write_id(t.pending_id) if t.pending_id != ID_ZERO else UNSET,
        write_id(t.user_data_128) if t.user_data_128 != ID_ZERO else UNSET,
        t.user_data_64 or LEFT_OUT,
        t.user_data_32 or LEFT_OUT,
        t.timeout or LEFT_OUT,
        t.ledger or LEFT_OUT,
        t.code or LEFT_OUT,
        names_of(t.flags) if t.flags else UNSET,
    )
