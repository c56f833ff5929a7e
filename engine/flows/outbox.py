"""What is asked of other flow workers: children, occurrences of schedules, flows at home elsewhere.

All of it goes by the streams, as anybody's, and may be sent again.
"""

from collections.abc import Callable, Mapping, Sequence

import msgspec

from engine.flows.calls import Hear
from engine.flows.entries import Request, answer_fields
from engine.flows.happenings import Begin, ChildAnswered, ChildEnded
from engine.flows.live import Live
from engine.flows.schedules import Schedule
from engine.flows.store import FlowStore
from engine.flows.streams import FlowStreams, flow_stream
from engine.ledger.nouns import shard_of


class Parts:
    """An entry whose flows live elsewhere, in parts: answered when all parts are."""

    def __init__(self, request: Request, outcomes: list[str | None]) -> None:
        self.request = request
        self.outcomes = outcomes
        self.is_refused = False
        """Whether a part of it could not be read, and its sender was told."""


class Outbox:
    """What one session has asked of other flow workers.

    Args:
        store: To look what became of children.
        streams: To send.
        shard_count: Of the ledger.
        token: Makes the name of a request.
        hear: Takes what happened to a flow.
        hear_occurrence: Takes what the start of a schedule's occurrence was answered.
    """

    def __init__(
        self,
        store: FlowStore,
        streams: FlowStreams,
        shard_count: int,
        token: Callable[[], bytes],
        hear: Hear,
        hear_occurrence: Callable[[Schedule, str], None],
    ) -> None:
        self._store = store
        self._streams = streams
        self._shard_count = shard_count
        self._token = token
        self._hear = hear
        self._hear_occurrence = hear_occurrence
        self._begun: dict[bytes, Begin] = {}
        self._occurred: dict[bytes, Schedule] = {}
        self._parts: dict[bytes, tuple[Parts, list[int]]] = {}

    async def take_answer(self, token: bytes, fields: dict[bytes, bytes]) -> None:
        """Read an answer to what was asked here; others are let be."""
        if token in self._begun:
            begin = self._begun.pop(token)
            outcomes = _names(fields)
            if outcomes:
                self._hear(begin.flow, ChildAnswered(begin.seq, outcomes[0]))
        elif token in self._occurred:
            schedule = self._occurred.pop(token)
            self._hear_occurrence(schedule, (_names(fields) or ["error"])[0])
        elif token in self._parts:
            await self._take_part(token, fields)

    async def look_at_children(
        self, children: Sequence[Begin], live: Mapping[bytes, Live]
    ) -> list[Begin]:
        """See what became of children; returns those that are to be started again."""
        if not children:
            return []
        ids = [begin.child for begin in children]
        ends = await self._store.ends_of(ids)
        records = await self._store.load_flows(ids)
        refused = {r.id: r.outcome for r in records if r.outcome != "created"}
        missing = []
        for begin in children:
            last = live[begin.flow].last
            if begin.child in refused:
                self._hear(begin.flow, ChildAnswered(begin.seq, refused[begin.child]))
            elif begin.child not in ends:
                missing.append(begin)
            elif last is not None and last.state == "asked":
                self._hear(begin.flow, ChildAnswered(begin.seq, "exists"))
            elif ends[begin.child][0] == "ended":
                self._hear(begin.flow, ChildEnded(ends[begin.child][1] or ""))
        return missing

    async def begin(self, begins: Sequence[Begin], live: Mapping[bytes, Live]) -> None:
        """Start children by the streams of their homes."""
        entries = []
        for begin in begins:
            token = self._token()
            self._begun[token] = begin
            parent = live[begin.flow].flow
            written = msgspec.json.decode(begin.request) | {"id": _text(begin.child)}
            fields = {
                b"json": msgspec.json.encode(written),
                b"flow": begin.name.encode(),
                b"by": parent.started_by.encode(),
                b"depth": b"%d" % (parent.depth + 1),
                b"reply": self._streams.reply.encode(),
                b"request": token,
            }
            home = shard_of(begin.child, self._shard_count)
            entries.append((flow_stream(self._streams.prefix, "flows", home), fields))
        await self._streams.send(entries)

    async def occur(self, schedules: Sequence[Schedule]) -> None:
        """Start occurrences of schedules, by the streams of their homes."""
        entries = []
        for schedule in schedules:
            token = self._token()
            self._occurred[token] = schedule
            written = msgspec.json.decode(schedule.input) | {"id": _text(schedule.flow)}
            fields = {
                b"json": msgspec.json.encode(written),
                b"flow": schedule.name.encode(),
                b"by": schedule.added_by.encode(),
                b"reply": self._streams.reply.encode(),
                b"request": token,
            }
            home = shard_of(schedule.flow, self._shard_count)
            entries.append((flow_stream(self._streams.prefix, "flows", home), fields))
        await self._streams.send(entries)

    async def forward(self, parts: Parts, kind: str, homes: Mapping[int, list[int]]) -> None:
        """Send on what of an entry belongs to other shards, to be answered together."""
        request = parts.request
        entries = []
        for shard, places in homes.items():
            token = self._token()
            self._parts[token] = (parts, places)
            fields = {b"reply": self._streams.reply.encode(), b"request": token}
            if kind == "flows":
                items = [
                    request.starts[p].input | {"id": _text(request.starts[p].id)} for p in places
                ]
                fields |= {b"flow": request.flow.encode(), b"by": request.by.encode()}
                fields |= {b"start_at": b"%d" % request.start_at, b"depth": b"%d" % request.depth}
                fields[b"json"] = msgspec.json.encode(items)
            else:
                fields[b"json"] = msgspec.json.encode([request.signals[p] for p in places])
            entries.append((flow_stream(self._streams.prefix, kind, shard), fields))
        await self._streams.send(entries)

    async def _take_part(self, token: bytes, fields: dict[bytes, bytes]) -> None:
        parts, places = self._parts.pop(token)
        request = parts.request
        if b"error" in fields:
            if request.reply is not None and not parts.is_refused:
                echo = {} if request.request is None else {b"request": request.request}
                answer = echo | {b"error": fields[b"error"]}
                await self._streams.answer([(request.reply, answer)])
            parts.is_refused = True
            return
        for place, outcome in zip(places, _names(fields), strict=False):
            parts.outcomes[place] = outcome
        outcomes = [outcome for outcome in parts.outcomes if outcome is not None]
        if len(outcomes) == len(parts.outcomes) and request.reply is not None:
            await self._streams.answer([(request.reply, answer_fields(request, outcomes))])


def _names(fields: Mapping[bytes, bytes]) -> list[str]:
    packed = fields.get(b"outcomes", b"[]")
    return msgspec.json.decode(packed, type=list[str])


def _text(flow: bytes) -> str:
    text = flow.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
