"""The flows in Postgres, as a flow worker uses them: loads, flushes, ownership."""

from collections.abc import Collection, Sequence
from typing import Any, Final
from uuid import UUID

import msgspec

from engine.flows.early import FORGET_MAX
from engine.flows.flush import FlowFlush, FlowRecord, Message, write_flush
from engine.flows.journal import Row, Signal
from engine.flows.money import Spent
from engine.flows.ownership import FlowConnections, FlowOwnership
from engine.flows.schedules import SCHEDULES_MAX, Schedule
from engine.ledger.nouns import ID_ZERO, Transfer
from engine.ledger.outcomes import Outcome
from engine.patience import within
from engine.store.commit import commit_and_settle
from engine.store.connections import Connect
from engine.store.driver import STATEMENT_SECONDS_MAX, connect
from engine.store.driver_errors import translated

PLACES_SHIFT: Final = 20
"""Numbers of signals: that of the flush, and the place in it."""


class FlowStore:
    """One flow worker's door to Postgres.

    Args:
        dsn: The Postgres server and database.
        worker: The worker's id, 16 bytes, new at every start.
        connect: How to reach the server.
    """

    def __init__(self, dsn: str, worker: bytes, connect: Connect = connect) -> None:
        self.worker = worker
        self._connections = FlowConnections(dsn, worker, connect)
        self.ownership = FlowOwnership(self._connections)

    async def open(self) -> None:
        """Connect, again where a connection was lost."""
        await self._connections.open()

    def drop(self) -> None:
        """Cut all connections."""
        self._connections.drop()

    # Reading.

    async def shard_count(self) -> int:
        """Into how many shards the ledger is cut."""
        rows = await self._connections.read("shard_count")
        count: int = rows[0]["shard_count"]
        return count

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
        flows = [flow for flow, _, _ in keys]
        names = [name for _, name, _ in keys]
        message_ids = [message_id for _, _, message_id in keys]
        rows = await self._connections.read("flows_messages", flows, names, message_ids)
        return {(r["flow"], r["name"], r["message_id"]): Message(**dict(r)) for r in rows}

    async def due(self, shards: Collection[int], after: int, until: int) -> list[tuple[int, bytes]]:
        """When which flows are to be looked at."""
        rows = await self._connections.read("flows_due", list(shards), after, until)
        return [(row["wake_at"], row["flow"]) for row in rows]

    async def count_early(self, shards: Collection[int]) -> dict[int, int]:
        """By shard, how many signals of flows that have not started are kept."""
        rows = await self._connections.read("flows_count_early", list(shards))
        return {row["shard"]: row["signals"] for row in rows}

    async def old_early(self, shards: Collection[int], before: int) -> list[tuple[int, int]]:
        """Numbers and shards of such signals that came before a time."""
        wanted = list(shards), before, FORGET_MAX
        rows = await self._connections.read("flows_old_early", *wanted)
        return [(row["number"], row["shard"]) for row in rows]

    async def due_schedules(self, shards: Collection[int], until: int) -> list[Schedule]:
        """Schedules of which an occurrence is due by a time."""
        wanted = list(shards), until, SCHEDULES_MAX
        rows = await self._connections.read("flows_due_schedules", *wanted)
        return [Schedule(**dict(row)) for row in rows]

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
        written: dict[bytes, list[str]] = {}
        for name, account_id in ids.items():
            written.setdefault(account_id, []).append(name)
        for row in rows:
            for name in {*written.get(row["id"], ()), row["name"]} & found.keys():
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
                async with within(STATEMENT_SECONDS_MAX):
                    fence = (self.worker, sequence, number, "flush", now, flush.steps)
                    [row] = await connections.write("flows_fence", *fence)
                    await write_flush(connections, flush, number, now, shard_count)
            except BaseException:
                await connections.roll_back()
                raise
            await commit_and_settle(connections, sequence, number, connection.execute("COMMIT"))
        next_number: int = row["next_number"]
        return next_number


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
