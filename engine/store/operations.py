"""What operators ask of the workers, and what they are told: plans and moves, all in rows."""

import contextlib
from collections.abc import AsyncIterator, Collection, Sequence
from typing import Any, Literal
from uuid import UUID

import asyncpg
import msgspec

from engine.store.driver import connect
from engine.store.driver_errors import translated
from engine.store.statements import statement
from shards.seats import LiveSeat, ShardSeat


class MoveRecord(msgspec.Struct, frozen=True):
    """A step of a plan, as far as it got."""

    move: int
    shard: int
    source: str
    target: str
    state: Literal["asked", "released", "claimed", "done", "failed", "aborted"]
    why: str | None
    pause_seconds: float | None

    @property
    def is_open(self) -> bool:
        """Whether it is still to come to its end."""
        return self.state in {"asked", "released", "claimed"}


class Operations:
    """Questions and requests over one connection; use `open_operations`."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def shards(self) -> list[ShardSeat]:
        """All shards, in their order."""
        return [msgspec.convert(dict(r), ShardSeat) for r in await self._rows("operate_shards")]

    async def workers(self) -> list[LiveSeat]:
        """The workers that are alive, the oldest first."""
        return [msgspec.convert(dict(r), LiveSeat) for r in await self._rows("operate_workers")]

    async def moves(self, plan: str) -> dict[int, MoveRecord]:
        """The newest move of each shard that a plan asked for."""
        rows = await self._rows("operate_moves", UUID(plan).bytes)
        return {row["shard"]: msgspec.convert(dict(row), MoveRecord) for row in rows}

    async def pause_seconds(self) -> float | None:
        """How long a shard stood still lately when it was moved; None where none was."""
        [row] = await self._rows("operate_pause")
        seconds: float | None = row["seconds"]
        return seconds

    async def begin_plan(self, plan: str, document: str, by: str) -> bool:
        """Enter a plan as being applied. Returns False where it is over, done or aborted."""
        return bool(await self._rows("begin_plan", UUID(plan).bytes, document, by))

    async def end_plan(self, plan: str, state: Literal["done", "failed"], why: str | None) -> None:
        """A plan that is being applied comes to its end."""
        await self._rows("end_plan", UUID(plan).bytes, state, why)

    async def plan_state(self, plan: str) -> str | None:
        """Whether a plan is being applied; None where it never was."""
        rows = await self._rows("plan_state", UUID(plan).bytes)
        return rows[0]["state"] if rows else None

    async def ask(self, plan: str, steps: Sequence[tuple[int, str, str]], by: str) -> None:
        """Ask for moves: shard, source, target of each."""
        await self._rows(
            "ask_moves",
            UUID(plan).bytes,
            [shard for shard, _, _ in steps],
            [UUID(source).bytes for _, source, _ in steps],
            [UUID(target).bytes for _, _, target in steps],
            by,
        )

    async def abort(self, why: str, plan: str | None = None) -> tuple[list[str], list[int]]:
        """Let plans come to an end; what is half moved is moved.

        Returns:
            The plans, and the shards that stay where they are.
        """
        only = None if plan is None else UUID(plan).bytes
        plans = await self._rows("abort_plans", why, only)
        moves = await self._rows("abort_moves", why, only)
        return [row["plan"] for row in plans], sorted(row["shard"] for row in moves)

    async def drain(self, workers: Collection[str], *, drained: bool = True) -> None:
        """Let workers take no shards by themselves any more, or let them take some again."""
        await self._rows("drain_worker", [UUID(worker).bytes for worker in workers], drained)

    async def _rows(self, name: str, *arguments: Any) -> list[Any]:
        with translated():
            rows: list[Any] = await self._connection.fetch(statement(name), *arguments)
        return rows


@contextlib.asynccontextmanager
async def open_operations(dsn: str) -> AsyncIterator[Operations]:
    """Connect for the length of a block.

    Raises:
        TryAgainError: Postgres is out of reach.
        ConfigurationError: It is not as the ledger needs it.
    """
    connection = await connect(dsn, "engine operator")
    try:
        yield Operations(connection)
    finally:
        connection.terminate()
