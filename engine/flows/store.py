"""The flows in Postgres, as a flow worker uses them: loads, flushes, ownership."""

import asyncio
import os
import socket
from collections.abc import Collection, Sequence
from typing import Any, Final
from uuid import UUID

import msgspec

from engine.errors import ChainMovedError
from engine.flows.journal import Row, Signal
from engine.flows.money import Spent
from engine.ledger.nouns import ID_ZERO, Transfer
from engine.ledger.outcomes import Outcome
from engine.store.commit import commit_and_settle
from engine.store.connections import Connections
from engine.store.driver import STATEMENT_SECONDS_MAX, translated

NOBODY: Final = ID_ZERO
"""The worker that owns what nobody owns."""

PLACES_SHIFT: Final = 20
"""Numbers of signals: that of the flush, and the place in it."""

_OWN: Final = {"find_flush": "flows_find_flush", "reserve_number": "flows_reserve_number"}


class FlowConnections(Connections):
    """Connections of a flow worker: its chain stands in tables of its own."""

    def __init__(self, dsn: str, worker: bytes) -> None:
        super().__init__(dsn, worker)
        self.name = f"engine flows {UUID(bytes=worker)}"

    def text(self, name: str) -> str:
        """The text of a named statement."""
        return super().text(_OWN.get(name, name))


class FlowRecord(msgspec.Struct, frozen=True):
    """A row of `flows.flows`."""

    id: bytes
    definition: int | None
    outcome: str
    name: str
    input: bytes
    accounts: dict[str, str]
    started_by: str = ""
    depth: int = 0


class Message(msgspec.Struct, frozen=True):
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

    @property
    def is_empty(self) -> bool:
        """Whether nothing is to be written."""
        return not any(getattr(self, name) for name in self.__struct_fields__)


class Ownership(msgspec.Struct):
    """What a worker owns, in one snapshot."""

    sequence: int
    shards: set[int]
    number: int
    now: int
    """Postgres's clock, in microseconds."""


class FlowStore:
    """One flow worker's door to Postgres.

    Args:
        dsn: The Postgres server and database.
        worker: The worker's id, 16 bytes, new at every start.
    """

    def __init__(self, dsn: str, worker: bytes) -> None:
        self.worker = worker
        self._connections = FlowConnections(dsn, worker)

    async def open(self) -> None:
        """Connect, again where a connection was lost."""
        await self._connections.open()

    def drop(self) -> None:
        """Cut all connections."""
        self._connections.drop()

    # Ownership.

    async def register(self, lease_seconds: float) -> None:
        """Enter this worker."""
        await self._connections.read(
            "flows_register", self.worker, socket.gethostname(), os.getpid(), lease_seconds
        )

    async def shard_count(self) -> int:
        """Into how many shards the ledger is cut."""
        rows = await self._connections.read("shard_count")
        count: int = rows[0]["shard_count"]
        return count

    async def heartbeat(self, lease_seconds: float) -> int:
        """Stay alive; returns Postgres's clock."""
        rows = await self._connections.watch("flows_heartbeat", self.worker, lease_seconds)
        now: int = rows[0]["now"]
        return now

    async def expire(self) -> None:
        """Be alive no more."""
        await self._connections.watch("flows_expire", self.worker)

    async def look(self) -> list[Any]:
        """Who owns each shard, and who is alive."""
        return await self._connections.watch("flows_look")

    async def terminate_blockers(self) -> None:
        """End frozen workers' backends that stand in the way."""
        if self._connections.waits_since is None or self._connections.writer.is_closed():
            return
        pid = self._connections.writer.get_server_pid()
        await self._connections.watch("flows_terminate_blockers", pid, self.worker)

    async def load_ownership(self) -> Ownership:
        """The worker's last number and its shards, in one snapshot."""
        [row] = await self._connections.read("flows_sequence", self.worker, locked=True)
        return Ownership(row["sequence"], set(row["shards"]), row["number"], row["now"])

    async def change_owner(
        self, owned: Ownership, shards: Collection[int], former: bytes, worker: bytes
    ) -> set[int]:
        """Take shards from one that is not alive, or give them back, in both chains.

        Raises:
            ChainMovedError: This worker's own shards are others.
        """
        connections = self._connections
        connection = connections.writer
        with translated(), connections.waiting():
            await connection.execute("BEGIN")
            try:
                await connections.write("flows_lock_workers", sorted([former, worker]))
                again = await self.load_ownership()
                _check_unmoved(owned, again)
                arguments = (list(shards), former, worker, again.number, self.worker)
                rows = await connections.write("flows_change_owner", *arguments)
                kind = "release" if former == self.worker else "claim"
                sequence = owned.sequence + 1
                fence = (self.worker, sequence, again.number, kind, again.now, 0)
                await connections.write("flows_fence", *fence)
            except BaseException:
                await connections.roll_back()
                raise
            commit = connection.execute("COMMIT")
            await commit_and_settle(connections, sequence, again.number, commit)
        return {row["shard"] for row in rows}

    # Reading.

    async def definitions(self, after: int) -> list[Any]:
        """The definitions that came after a number."""
        return await self._connections.read("flows_definitions", after)

    async def load_flows(self, ids: Sequence[bytes]) -> list[FlowRecord]:
        """Flows and refused starts; ids that are free are left out."""
        rows = await self._connections.read("flows_load", ids)
        return [
            FlowRecord(**{**dict(row), "accounts": msgspec.json.decode(row["accounts"])})
            for row in rows
        ]

    async def load_journals(self, ids: Sequence[bytes]) -> dict[bytes, list[Row]]:
        """By flow, its rows in order."""
        found: dict[bytes, list[Row]] = {}
        for row in await self._connections.read("flows_journals", ids):
            found.setdefault(row["flow"], []).append(row_of(row))
        return found

    async def load_signals(self, ids: Sequence[bytes]) -> dict[bytes, list[Signal]]:
        """By flow, the signals that came for it, oldest first."""
        found: dict[bytes, list[Signal]] = {}
        for row in await self._connections.read("flows_signals", ids):
            signal = Signal(row["number"], row["name"], row["event"], row["message_id"])
            found.setdefault(row["flow"], []).append(signal)
        return found

    async def load_messages(
        self, keys: Sequence[tuple[bytes, str, str]]
    ) -> dict[tuple[bytes, str, str], Message]:
        """Messages that were received before."""
        flows, names, message_ids = _columns(keys)
        rows = await self._connections.read("flows_messages", flows, names, message_ids)
        return {(r["flow"], r["name"], r["message_id"]): Message(**dict(r)) for r in rows}

    async def due(self, shards: Collection[int], after: int, until: int) -> list[tuple[int, bytes]]:
        """When which flows are to be looked at."""
        rows = await self._connections.read("flows_due", list(shards), after, until)
        return [(row["wake_at"], row["flow"]) for row in rows]

    async def load_spent(self, ids: Sequence[bytes]) -> dict[bytes, Spent]:
        """What the ledger has under ids; those that are free are left out."""
        rows = await self._connections.read("flows_spent", ids)
        return {row["id"]: spent_of(row) for row in rows}

    async def holds_over(self, ids: Sequence[bytes]) -> frozenset[bytes]:
        """Those of some holds that are open no more."""
        rows = await self._connections.read("flows_spent", ids)
        return frozenset(row["id"] for row in rows if row["status"] is not None)

    async def find_accounts(self, ledger: int, names: Collection[str]) -> dict[str, list[bytes]]:
        """By name or id as it is written, the accounts that it stands for."""
        ids = {name: made for name in names if (made := uuid_bytes(name)) is not None}
        rows = await self._connections.read(
            "flows_accounts", ledger, list(ids.values()), list(names)
        )
        found: dict[str, list[bytes]] = {name: [] for name in names}
        for row in rows:
            for name in names:
                if row["id"] == ids.get(name) or row["name"] == name:
                    found[name].append(row["id"])
        return found

    async def ends_of(self, ids: Sequence[bytes]) -> dict[bytes, tuple[str, str | None]]:
        """By flow that is there, its state and its end."""
        rows = await self._connections.read("flows_current", ids)
        return {row["id"]: (row["state"], row["end"]) for row in rows}

    # Flushing.

    async def flush(
        self, flush: FlowFlush, sequence: int, number: int, now: int, shard_count: int
    ) -> int:
        """Write a flush in one transaction, durably; returns the number for the next one.

        Raises:
            ChainMovedError: Another wrote in this worker's chain; nothing was written.
            ConflictError: Another wrote one of these rows; nothing was written.
            TryAgainError: Postgres is out of reach, and the fate of the flush may be unknown.
        """
        connections = self._connections
        connection = connections.writer
        with translated(), connections.waiting():
            await connection.execute("BEGIN")
            try:
                async with asyncio.timeout(STATEMENT_SECONDS_MAX):
                    fence = (self.worker, sequence, number, "flush", now, len(flush.rows))
                    [row] = await connections.write("flows_fence", *fence)
                    await self._write(flush, number, now, shard_count)
            except BaseException:
                await connections.roll_back()
                raise
            await commit_and_settle(connections, sequence, number, connection.execute("COMMIT"))
        next_number: int = row["next_number"]
        return next_number

    async def _write(self, flush: FlowFlush, number: int, now: int, shard_count: int) -> None:
        write = self._connections.write
        if flush.flows:
            columns = _columns(
                (
                    f.id,
                    f.definition,
                    f.outcome,
                    f.name,
                    int.from_bytes(f.id[12:], "big") & (shard_count - 1),
                    f.depth,
                    f.input,
                    msgspec.json.encode(f.accounts).decode(),
                    f.started_by,
                )
                for f in flush.flows
            )
            await write("flows_add_flows", *columns, now, number)
        if flush.rows:
            columns = _columns(
                (
                    r.flow,
                    r.seq,
                    r.step,
                    r.state,
                    r.event,
                    r.attempt,
                    r.due_at or None,
                    r.transfer_id or None,
                    r.reference,
                    r.signal or None,
                    r.request or None,
                    msgspec.json.encode(r.detail).decode(),
                )
                for r in flush.rows
            )
            await write("flows_add_steps", *columns, now, number)
        if flush.open:
            columns = _columns(
                (flow, int.from_bytes(flow[12:], "big") & (shard_count - 1), wake_at)
                for flow, wake_at in sorted(flush.open.items())
            )
            await write("flows_set_open", *columns)
        if flush.ended:
            await write("flows_end_open", flush.ended)
        if flush.reviews:
            columns = _columns(
                (
                    r.flow,
                    r.seq,
                    r.question,
                    msgspec.json.encode(r.answers).decode(),
                    r.due_at or None,
                )
                for r in flush.reviews
            )
            await write("flows_add_reviews", *columns, now)
        if flush.review_ends:
            columns = _columns(msgspec.structs.astuple(r) for r in flush.review_ends)
            await write("flows_end_reviews", *columns, now)
        if flush.messages:
            columns = _columns(msgspec.structs.astuple(m) for m in flush.messages)
            await write("flows_add_messages", *columns, now)
        if flush.misfits:
            columns = _columns(msgspec.structs.astuple(m)[:-1] for m in flush.misfits)
            await write("flows_add_misfits", *columns, now)
        for letter in flush.dead_letters:
            await write("flows_add_dead_letter", *letter)


def _check_unmoved(owned: Ownership, again: Ownership) -> None:
    if again.shards != owned.shards or again.sequence != owned.sequence:
        raise ChainMovedError("the shards of this flow worker are others now")


def _columns(rows: Any) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]


def row_of(row: Any) -> Row:
    """Of `flows_journals`."""
    return Row(
        row["flow"],
        row["seq"],
        row["step"],
        row["state"],
        row["event"],
        row["attempt"],
        row["due_at"] or 0,
        row["transfer_id"] or b"",
        row["reference"],
        row["signal"] or 0,
        row["request"] or b"",
        msgspec.json.decode(row["detail"]),
        row["at"],
    )


def spent_of(row: Any) -> Spent:
    """Of `flows_spent`."""
    outcome = Outcome(row["outcome"])
    if outcome is not Outcome.created:
        return Spent(outcome, None, row["request"])
    transfer = Transfer(
        row["id"],
        row["debit_account_id"],
        row["credit_account_id"],
        row["amount"],
        row["pending_id"] or ID_ZERO,
        row["user_data_128"] or ID_ZERO,
        (row["user_data_64"] or 0) % 2**64,
        row["user_data_32"] or 0,
        row["timeout"] or 0,
        row["ledger"],
        row["code"],
        row["flags"],
    )
    return Spent(outcome, transfer)


def uuid_bytes(text: str) -> bytes | None:
    """The bytes of a uuid written 8-4-4-4-12; None where it is another text."""
    if len(text) != 36:
        return None
    try:
        return UUID(text).bytes
    except ValueError:
        return None
