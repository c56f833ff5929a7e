"""Rows of flows, their journals and their inbox, for Postgres's binary COPY.

Each row is laid out by itself: its fixed fields by one `struct`, texts that come again and again
from a memory of the flush. Arrays of the same values cost seven times as much to make and send.
"""

import struct
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

import msgspec

from engine.flows.columns import StepColumns
from engine.flows.journal import Row
from engine.ledger.nouns import shard_of
from engine.store.copy import Copy
from engine.store.driver import POSTGRES_EPOCH

if TYPE_CHECKING:
    from engine.flows.flush import FlowRecord, Message

_HEADER: Final = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_TRAILER: Final = b"\xff\xff"
_NULL: Final = b"\xff\xff\xff\xff"
_EMPTY: Final = bytes(4)

_STEP: Final = struct.Struct(">hi16sihih")
_UUID: Final = struct.Struct(">i16s")
_LONG: Final = struct.Struct(">iq")
_TWO_LONGS: Final = struct.Struct(">iqiq")
_INTEGER: Final = struct.Struct(">ii")
_SHORT: Final = struct.Struct(">ih")
_TWO_SHORTS: Final = struct.Struct(">ihih")
_KEY: Final = struct.Struct(">hi16s")
_SHORT_LENGTH: Final = struct.Struct(">hi")
_LENGTH: Final = struct.Struct(">i")

STEP_COLUMNS: Final = (
    "flow", "seq", "step", "state", "event", "attempt", "due_at", "transfer_id", "reference",
    "signal", "request", "detail", "at", "number",
)  # fmt: skip
FLOW_COLUMNS: Final = (
    "id", "definition", "outcome", "name", "shard", "depth", "input", "accounts", "started_by",
    "started_at", "number",
)  # fmt: skip
INBOX_COLUMNS: Final = (
    "flow", "name", "message_id", "event", "body", "answer", "number", "received_at",
)  # fmt: skip


class _Texts(dict[str, bytes]):
    """Texts as fields, each laid out once."""

    def __missing__(self, text: str) -> bytes:
        made = self[text] = _field(text.encode())
        return made


def _field(value: bytes) -> bytes:
    return _LENGTH.pack(len(value)) + value


def _json(text: bytes) -> bytes:
    # The first byte is the version of the form.
    return _field(b"\x01" + text)


_NO_DETAIL: Final = _json(b"{}")


def copy_of_steps(
    rows: Sequence[Row], planned: Sequence[StepColumns], number: int, now: int
) -> Copy:
    """Rows of `flows.steps`, one by one and in columns."""
    texts = _Texts()
    tail = _TWO_LONGS.pack(8, now - POSTGRES_EPOCH, 8, number)
    parts: list[bytes] = [_HEADER]
    for row in rows:
        parts += (
            _STEP.pack(len(STEP_COLUMNS), 16, row.flow, 2, row.seq, 2, row.step),
            texts[row.state],
            texts[row.event],
            _INTEGER.pack(4, row.attempt),
            _LONG.pack(8, row.due_at - POSTGRES_EPOCH) if row.due_at else _NULL,
            _UUID.pack(16, row.transfer_id) if row.transfer_id else _NULL,
            _field(row.reference.encode()) if row.reference else _EMPTY,
            _LONG.pack(8, row.signal) if row.signal else _NULL,
            _field(row.request) if row.request else _NULL,
            _json(msgspec.json.encode(row.detail)) if row.detail else _NO_DETAIL,
            tail,
        )
    count = len(rows)
    for columns in planned:
        parts += _planned_rows(columns, texts, tail, now)
        count += len(columns.flows) * len(columns.plan.patterns)
    return _copy(STEP_COLUMNS, parts, count)


def _planned_rows(columns: StepColumns, texts: _Texts, tail: bytes, now: int) -> list[bytes]:
    """All rows of each flow of a group, by one template that has gaps for what is its own."""
    flows, planned = columns.flows, columns.planned
    constants: list[bytes] = [b""]
    gaps: list[list[bytes]] = []

    def leave_gap(values: list[bytes]) -> None:
        gaps.append(values)
        constants.append(b"")

    for p in columns.plan.patterns:
        constants[-1] += _SHORT_LENGTH.pack(len(STEP_COLUMNS), 16)
        leave_gap(flows)
        constants[-1] += _TWO_SHORTS.pack(2, p.seq, 2, p.step) + texts[p.state] + texts[p.event]
        constants[-1] += _INTEGER.pack(4, p.attempt)
        constants[-1] += _LONG.pack(8, now + p.due_after - POSTGRES_EPOCH) if p.due_after else _NULL
        if p.transfer:
            constants[-1] += _LENGTH.pack(16)
            is_new = p.transfer == "new"
            leave_gap([each.new_id if is_new else each.asked_id for each in planned])
        else:
            constants[-1] += _NULL
        if p.signal >= 0:
            signals = [each.unheard[p.signal] for each in planned]
            leave_gap([_field(s.message_id.encode()) + _LONG.pack(8, s.number) for s in signals])
        else:
            constants[-1] += _EMPTY + _NULL
        if p.transfer == "new":
            leave_gap([_field(each.request) for each in planned])
        else:
            constants[-1] += _NULL
        constants[-1] += _json(msgspec.json.encode(p.detail)) if p.detail else _NO_DETAIL
        constants[-1] += tail
    template = b"%b".join(constant.replace(b"%", b"%%") for constant in constants)
    return [template % each for each in zip(*gaps, strict=True)]


def copy_of_flows(records: Iterable["FlowRecord"], number: int, now: int, shard_count: int) -> Copy:
    """Rows of `flows.flows`."""
    texts = _Texts()
    tail = _TWO_LONGS.pack(8, now - POSTGRES_EPOCH, 8, number)
    parts: list[bytes] = [_HEADER]
    count = 0
    for record in records:
        count += 1
        parts += (
            _KEY.pack(len(FLOW_COLUMNS), 16, record.id),
            _NULL if record.definition is None else _SHORT.pack(2, record.definition),
            texts[record.outcome],
            texts[record.name],
            _TWO_SHORTS.pack(2, shard_of(record.id, shard_count), 2, record.depth),
            _field(record.input),
            _json(msgspec.json.encode(record.accounts)),
            texts[record.started_by],
            tail,
        )
    return _copy(FLOW_COLUMNS, parts, count)


def copy_of_messages(messages: Iterable["Message"], now: int) -> Copy:
    """Rows of `flows.inbox`."""
    texts = _Texts()
    time = now - POSTGRES_EPOCH
    parts: list[bytes] = [_HEADER]
    count = 0
    for message in messages:
        count += 1
        parts += (
            _KEY.pack(len(INBOX_COLUMNS), 16, message.flow),
            texts[message.name],
            _field(message.message_id.encode()),
            texts[message.event],
            _NULL if message.body is None else _json(message.body.encode()),
            texts[message.answer],
            _TWO_LONGS.pack(8, message.number, 8, time),
        )
    return _copy(INBOX_COLUMNS, parts, count)


def _copy(columns: Sequence[str], parts: list[bytes], count: int) -> Copy:
    parts.append(_TRAILER)
    return Copy(list(columns), [b"".join(parts)], count)
