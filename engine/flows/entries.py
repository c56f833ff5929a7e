"""Entries of the streams of flows: starts and signals, read whole or refused whole."""

from collections.abc import Mapping
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from engine.errors import InputError
from engine.flows.streams import FlowEntry
from engine.flows.turn import DEPTH_MAX
from engine.ledger.nouns import BATCH_TRANSFERS_MAX, ENTRY_BYTES_MAX
from engine.wire.fields import id_of

_OURS: Final = (b"json", b"mp", b"flow", b"by", b"reply", b"request", b"start_at", b"depth")
_NO_NUL: Final = "^[^\\x00]*$"
_Text = Annotated[str, Meta(min_length=1, max_length=200, pattern=_NO_NUL)]


class WrittenSignal(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True, gc=False):
    """A signal as it is written."""

    flow: Annotated[str, Meta(min_length=36, max_length=36)]
    name: _Text
    event: Annotated[str, Meta(max_length=200, pattern=_NO_NUL)]
    message_id: _Text
    body: Any = None


START_AT_MAX: Final = 2**55
"""Microseconds since 1970: in over a thousand years."""

REASON_CHARACTERS_MAX: Final = 500


class Unreadable(InputError):  # noqa: N818 - a statement about the entry, kept as a dead letter
    """Nothing of an entry is decided; it is kept with this reason, which its sender is told."""

    def __init__(
        self, entry: FlowEntry, reason: str, reply: bytes | None, request: bytes | None
    ) -> None:
        super().__init__(reason)
        self.entry = entry
        self.reason = _writable(reason)
        self.reply = reply
        self.request = request

    @property
    def row(self) -> tuple[str, str, str, list[bytes]]:
        """As `flows.dead_letters` has it."""
        return self.entry.stream, self.entry.id.decode(), self.reason, self.entry.fields


def _writable(reason: str) -> str:
    """A reason that every database takes: printable ASCII."""
    text = reason[:REASON_CHARACTERS_MAX].encode("ascii", "backslashreplace").decode()
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)


class Start(msgspec.Struct, frozen=True, gc=False):
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
    ids: list[bytes] = []
    """Of the flow of each start or signal."""


def read_entry(entry: FlowEntry, prefix: str) -> Request:
    """Read an entry.

    Raises:
        Unreadable: When any part of it cannot be read.
    """
    fields, reply = _fields_of(entry, prefix)
    try:
        _check_fields(entry, prefix, reply)
        if entry.stream.startswith(f"{prefix}:flows:"):
            return _read_starts(entry, fields, reply)
        return _read_signals(entry, fields, reply)
    except (msgspec.MsgspecError, ValueError, InputError, RecursionError) as error:
        raise refused_entry(entry, prefix, str(error)) from None


def _check_fields(entry: FlowEntry, prefix: str, reply: bytes | None) -> None:
    names = entry.fields[::2]
    twice = next((name for name in _OURS if names.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"the field {twice.decode()} stands twice")
    if reply is None and b"reply" in names:
        raise InputError(f"reply is no stream under {prefix}:answers:")


def refused_entry(entry: FlowEntry, prefix: str, reason: str) -> Unreadable:
    """What is said of an entry of which nothing is decided."""
    fields, reply = _fields_of(entry, prefix)
    return Unreadable(entry, reason, reply, fields.get(b"request"))


def _fields_of(entry: FlowEntry, prefix: str) -> tuple[dict[bytes, bytes], bytes | None]:
    """Its fields, and the stream where it can be answered."""
    fields = dict(zip(entry.fields[::2], entry.fields[1::2], strict=True))
    reply = fields.get(b"reply", b"")
    answers = f"{prefix}:answers:".encode()
    is_ours = reply.startswith(answers) and len(reply) > len(answers)
    return fields, reply if is_ours else None


def _payload(fields: Mapping[bytes, bytes], formats: tuple[str, ...]) -> tuple[str, list[Any]]:
    found = [name for name in formats if name.encode() in fields]
    if len(found) != 1:
        raise InputError(
            f"Expected one of {', '.join(formats)}, got {' and '.join(found) or 'none'}"
        )
    packed = fields[found[0].encode()]
    if len(packed) > ENTRY_BYTES_MAX:
        raise InputError(f"{len(packed)} bytes, and an entry has {ENTRY_BYTES_MAX} at most")
    read = msgspec.json.decode if found[0] == "json" else msgspec.msgpack.decode
    written = read(packed)
    items = written if isinstance(written, list) else [written]
    if len(items) > BATCH_TRANSFERS_MAX:
        raise InputError(f"{len(items)} in an entry; send {BATCH_TRANSFERS_MAX} at most")
    return found[0], items


def _read_starts(entry: FlowEntry, fields: Mapping[bytes, bytes], reply: bytes | None) -> Request:
    word, items = _payload(fields, ("json", "mp"))
    name = _text(fields, b"flow")
    if not name:
        raise InputError("Expected the field flow, the name of a definition")
    starts = []
    for item in items:
        if not isinstance(item, dict):
            raise InputError("Expected an object with id and the fields of the input")
        written = dict(item)
        flow_id = written.pop("id", None)
        if isinstance(flow_id, str):
            flow_id = id_of(flow_id)
        if not isinstance(flow_id, bytes) or len(flow_id) != 16:
            raise InputError("Expected a uuid - at `$.id`")
        starts.append(Start(flow_id, written))
    return Request(
        entry,
        reply,
        fields.get(b"request"),
        word,
        name,
        _text(fields, b"by"),
        _number(fields, b"start_at", START_AT_MAX),
        _number(fields, b"depth", DEPTH_MAX),
        starts,
        ids=[start.id for start in starts],
    )


def _text(fields: Mapping[bytes, bytes], name: bytes) -> str:
    found = fields.get(name, b"").decode()
    if "\0" in found:
        raise InputError(f"the field {name.decode()} has the character NUL, which is no text")
    return found


def _number(fields: Mapping[bytes, bytes], name: bytes, number_max: int) -> int:
    found = int(fields.get(name, b"0"))
    if not 0 <= found <= number_max:
        raise InputError(f"the field {name.decode()}: Expected a number up to {number_max}")
    return found


def _read_signals(entry: FlowEntry, fields: Mapping[bytes, bytes], reply: bytes | None) -> Request:
    word, items = _payload(fields, ("json",))
    signals = [msgspec.convert(item, WrittenSignal) for item in items]
    ids = [id_of(signal.flow) for signal in signals]
    return Request(entry, reply, fields.get(b"request"), word, signals=signals, ids=ids)


def error_fields(unreadable: Unreadable) -> dict[bytes, bytes]:
    """The fields of the answer to an entry of which nothing is decided."""
    echo = {} if unreadable.request is None else {b"request": unreadable.request}
    return echo | {b"error": unreadable.reason.encode()}


def answer_fields(request: Request, outcomes: list[str]) -> dict[bytes, bytes]:
    """The fields of the answer."""
    encode = msgspec.msgpack.encode if request.format == "mp" else msgspec.json.encode
    echo = {} if request.request is None else {b"request": request.request}
    return echo | {b"outcomes": encode(outcomes)}
