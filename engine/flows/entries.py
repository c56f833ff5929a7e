"""Entries of the streams of flows: starts and signals, read whole or refused whole."""

from collections.abc import Mapping
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from engine.errors import InputError
from engine.flows.streams import FlowEntry
from engine.ledger.nouns import BATCH_TRANSFERS_MAX, ENTRY_BYTES_MAX
from engine.wire.fields import id_of

_OURS: Final = (b"json", b"mp", b"flow", b"by", b"reply", b"request", b"start_at", b"depth")
_Text = Annotated[str, Meta(min_length=1, max_length=200)]


class WrittenSignal(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """A signal as it is written."""

    flow: Annotated[str, Meta(min_length=36, max_length=36)]
    name: _Text
    event: Annotated[str, Meta(max_length=200)]
    message_id: _Text
    body: Any = None


class Unreadable(InputError):  # noqa: N818 - a statement about the entry, kept as a dead letter
    """Nothing of an entry is decided; it is kept with this reason."""


class Start(msgspec.Struct, frozen=True):
    """One flow to be started; without an id or an object for its input, it is `invalid_input`."""

    id: bytes
    input: dict[str, Any]


class Request(msgspec.Struct, frozen=True):
    """An entry that was understood: starts of one definition, or signals."""

    entry: FlowEntry
    reply: bytes | None
    request: bytes | None
    format: str
    flow: str = ""
    by: str = ""
    start_at: int = 0
    depth: int = 0
    starts: list[Start] = []
    signals: list[WrittenSignal] = []


def read_entry(entry: FlowEntry, prefix: str) -> Request:
    """Read an entry.

    Raises:
        Unreadable: When any part of it cannot be read.
    """
    names = entry.fields[::2]
    fields = dict(zip(names, entry.fields[1::2], strict=True))
    twice = next((n for n in _OURS if names.count(n) > 1), None)
    if twice is not None:
        raise Unreadable(f"the field {twice.decode()} stands twice")
    reply = fields.get(b"reply")
    answers = f"{prefix}:answers:".encode()
    if reply is not None and (not reply.startswith(answers) or len(reply) == len(answers)):
        raise Unreadable(f"reply is no stream under {prefix}:answers:")
    try:
        if entry.stream.startswith(f"{prefix}:flows:"):
            return _read_starts(entry, fields, reply)
        return _read_signals(entry, fields, reply)
    except (msgspec.MsgspecError, ValueError, InputError) as error:
        raise Unreadable(str(error)[:500]) from None


def _payload(fields: Mapping[bytes, bytes], formats: tuple[str, ...]) -> tuple[str, list[Any]]:
    found = [name for name in formats if name.encode() in fields]
    if len(found) != 1:
        raise Unreadable(
            f"Expected one of {', '.join(formats)}, got {' and '.join(found) or 'none'}"
        )
    packed = fields[found[0].encode()]
    if len(packed) > ENTRY_BYTES_MAX:
        raise Unreadable(f"{len(packed)} bytes, and an entry has {ENTRY_BYTES_MAX} at most")
    read = msgspec.json.decode if found[0] == "json" else msgspec.msgpack.decode
    written = read(packed)
    items = written if isinstance(written, list) else [written]
    if len(items) > BATCH_TRANSFERS_MAX:
        raise Unreadable(f"{len(items)} in an entry; send {BATCH_TRANSFERS_MAX} at most")
    return found[0], items


def _read_starts(entry: FlowEntry, fields: Mapping[bytes, bytes], reply: bytes | None) -> Request:
    word, items = _payload(fields, ("json", "mp"))
    name = fields.get(b"flow", b"").decode()
    if not name:
        raise Unreadable("Expected the field flow, the name of a definition")
    starts = []
    for item in items:
        if not isinstance(item, dict):
            raise Unreadable("Expected an object with id and the fields of the input")
        written = dict(item)
        flow_id = written.pop("id", None)
        if isinstance(flow_id, str):
            flow_id = id_of(flow_id)
        if not isinstance(flow_id, bytes) or len(flow_id) != 16:
            raise Unreadable("Expected a uuid - at `$.id`")
        starts.append(Start(flow_id, written))
    return Request(
        entry,
        reply,
        fields.get(b"request"),
        word,
        name,
        fields.get(b"by", b"").decode(),
        int(fields.get(b"start_at", b"0")),
        int(fields.get(b"depth", b"0")),
        starts,
    )


def _read_signals(entry: FlowEntry, fields: Mapping[bytes, bytes], reply: bytes | None) -> Request:
    word, items = _payload(fields, ("json",))
    signals = [msgspec.convert(item, WrittenSignal) for item in items]
    for signal in signals:
        id_of(signal.flow)
    return Request(entry, reply, fields.get(b"request"), word, signals=signals)


def answer_fields(request: Request, outcomes: list[str]) -> dict[bytes, bytes]:
    """The fields of the answer."""
    encode = msgspec.msgpack.encode if request.format == "mp" else msgspec.json.encode
    echo = {} if request.request is None else {b"request": request.request}
    return echo | {b"outcomes": encode(outcomes)}
