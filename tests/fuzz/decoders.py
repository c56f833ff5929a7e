"""What reads bytes of strangers, each as a function of bytes that returns or raises what it may."""

import contextlib
from collections.abc import Callable
from typing import Final

from engine.errors import ConfigurationError, InputError, InvariantBroken
from engine.ledger.nouns import BATCH_TRANSFERS_MAX
from engine.store.address import read_address
from engine.streams.address import parse_address
from engine.wire.answers import decode_answer
from engine.wire.layout import TRANSFER
from engine.wire.requests import Format, UnreadableEntry, decode_entry


def read_entry(name: bytes, payload: bytes) -> None:
    """An entry is read whole, or refused with a reason that can be printed."""
    try:
        rows = decode_entry({name: payload}).transfers
    except UnreadableEntry as error:
        reason = error.reason
    else:
        assert rows.dtype == TRANSFER
        assert len(rows) <= BATCH_TRANSFERS_MAX
        return
    assert reason
    assert reason.isprintable()


def read_answer(payload: bytes) -> None:
    """An answer is read, or refused; by the first byte in each format."""
    form = list(Format)[payload[0] % len(Format)] if payload else Format.json
    with contextlib.suppress(InputError, InvariantBroken):
        decode_answer({b"outcomes": payload[1:], b"request": b"1"}, form)


def read_dsn(payload: bytes) -> None:
    """Addresses of both servers are read, or refused in a line."""
    text = payload.decode(errors="surrogateescape")
    for begun, read in (
        ("", read_address), ("postgresql://", read_address),
        ("redis://", parse_address), ("redis+cluster://", parse_address),
    ):  # fmt: skip
        said = ""
        try:
            read(begun + text)
        except ConfigurationError as error:
            said = str(error)
        assert "\n" not in said


DECODERS: Final[dict[str, Callable[[bytes], None]]] = {
    "json": lambda payload: read_entry(b"json", payload),
    "mp": lambda payload: read_entry(b"mp", payload),
    "bin": lambda payload: read_entry(b"bin", payload),
    "answer": read_answer,
    "dsn": read_dsn,
}
