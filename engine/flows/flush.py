"""What a turn writes: rows of the schema `flows`, in one transaction."""

from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec.structs import astuple

from engine.flows.columns import StepColumns
from engine.flows.copies import copy_of_flows, copy_of_messages, copy_of_steps
from engine.flows.journal import Row
from engine.ledger.nouns import shard_of
from engine.store.connections import Connections
from engine.store.copy import send_copy


class FlowRecord(msgspec.Struct, frozen=True, gc=False):
    """A row of `flows.flows`."""

    id: bytes
    definition: int | None
    outcome: str
    name: str
    input: bytes
    accounts: dict[str, str]
    started_by: str = ""
    depth: int = 0


class Message(msgspec.Struct, frozen=True, gc=False):
    """A row of `flows.inbox`, or, with a refusal, of `flows.misfits`."""

    flow: bytes
    name: str
    message_id: str
    event: str
    body: str | None
    answer: str
    number: int = 0


class Review(msgspec.Struct, frozen=True):
    """A review that is opened."""

    flow: bytes
    seq: int
    question: str
    answers: list[str]
    due_at: int


class ReviewEnd(msgspec.Struct, frozen=True):
    """How a review ended."""

    flow: bytes
    seq: int
    decision: str
    decided_by: str
    reason: str


class Move(msgspec.Struct, frozen=True):
    """A schedule goes on to its next occurrence."""

    schedule: bytes
    former: int
    nominal: int
    next_at: int
    outcome: str


class FlowFlush(msgspec.Struct):
    """What is written in one transaction."""

    flows: list[FlowRecord] = []
    rows: list[Row] = []
    open: dict[bytes, int | None] = {}
    """By flow, when it is to be looked at."""
    ended: list[bytes] = []
    reviews: list[Review] = []
    review_ends: list[ReviewEnd] = []
    messages: list[Message] = []
    misfits: list[Message] = []
    dead_letters: list[tuple[str, str, str, list[bytes]]] = []
    early: list[tuple[int, bytes]] = []
    """Numbers and flows of signals that came before their flows."""
    early_ends: list[bytes] = []
    """Flows of such signals that have started."""
    forgotten: list[int] = []
    """Numbers of such signals whose time is over."""
    moves: list[Move] = []
    planned: list[StepColumns] = []
    """Rows of journals, in columns."""

    @property
    def steps(self) -> int:
        """How many rows of journals there are."""
        return len(self.rows) + sum(len(p.plan.patterns) * len(p.flows) for p in self.planned)

    @property
    def is_empty(self) -> bool:
        """Whether nothing is to be written."""
        return not any(getattr(self, name) for name in self.__struct_fields__)


async def write_flush(
    connections: Connections, flush: FlowFlush, number: int, now: int, shard_count: int
) -> None:
    """Write a flush within the transaction that has taken its number."""
    connection = connections.writer
    if flush.flows:
        copy = copy_of_flows(flush.flows, number, now, shard_count)
        await send_copy(connection, "flows", copy, schema="flows")
    if flush.rows or flush.planned:
        copy = copy_of_steps(flush.rows, flush.planned, number, now)
        await send_copy(connection, "steps", copy, schema="flows")
    if flush.open:
        waking = (
            (flow, shard_of(flow, shard_count), wake_at)
            for flow, wake_at in sorted(flush.open.items())
        )
        ids, shards, times = _columns(waking)
        await connections.write("flows_set_open", ids, shards, times)
    if flush.ended:
        await connections.write("flows_end_open", flush.ended)
    await _write_reviews(connections, flush, now)
    await _write_messages(connections, flush, now)
    await _write_early(connections, flush, now, shard_count)
    if flush.moves:
        ids, formers, nominals, times, outcomes = _columns(map(astuple, flush.moves))
        moves = ids, formers, nominals, times, outcomes
        await connections.write("flows_move_schedules", *moves)


async def _write_reviews(connections: Connections, flush: FlowFlush, now: int) -> None:
    if flush.reviews:
        asked = (
            (r.flow, r.seq, r.question, msgspec.json.encode(r.answers).decode(), r.due_at or None)
            for r in flush.reviews
        )
        ids, seqs, questions, answers, dues = _columns(asked)
        await connections.write("flows_add_reviews", ids, seqs, questions, answers, dues, now)
    if flush.review_ends:
        ended = (astuple(end) for end in flush.review_ends)
        ids, seqs, decisions, by, reasons = _columns(ended)
        await connections.write("flows_end_reviews", ids, seqs, decisions, by, reasons, now)


async def _write_messages(connections: Connections, flush: FlowFlush, now: int) -> None:
    if flush.messages:
        copy = copy_of_messages(flush.messages, now)
        await send_copy(connections.writer, "inbox", copy, schema="flows")
    if flush.misfits:
        misfits = (astuple(message) for message in flush.misfits)
        ids, names, message_ids, events, bodies, answers, _ = _columns(misfits)
        letters = ids, names, message_ids, events, bodies, answers, now
        await connections.write("flows_add_misfits", *letters)
    for stream, entry, reason, fields in flush.dead_letters:
        await connections.write("flows_add_dead_letter", stream, entry, reason, fields)


async def _write_early(
    connections: Connections, flush: FlowFlush, now: int, shard_count: int
) -> None:
    if flush.early:
        rows = [(number, flow, shard_of(flow, shard_count)) for number, flow in flush.early]
        numbers, flows, shards = _columns(rows)
        await connections.write("flows_add_early", numbers, flows, shards, now)
    if flush.early_ends:
        await connections.write("flows_end_early", flush.early_ends)
    if flush.forgotten:
        await connections.write("flows_forget_early", flush.forgotten)


def _columns(rows: Iterable[Any]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]
