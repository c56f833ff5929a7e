"""The two sides of the conformance suite: a server in memory, and a real one."""

import asyncio
import struct
import uuid
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from engine.ledger.nouns import ID_ZERO
from engine.store.driver import connect
from engine.store.statements import statement
from tests.ledgers import Ledger
from tests.simulation.connection import Connector
from tests.simulation.database import Database
from tests.simulation.network import Network

LOCK_SECONDS_MAX = 1.6
"""More than the second after which Postgres looks for deadlocks."""

NOBODY = ID_ZERO
TIME = 1_700_000_000_000_000


class Side(ABC):
    """A Postgres to try things on. Everything that is connected ends with the test."""

    def __init__(self) -> None:
        self.connections: list[Any] = []

    async def connect(self, name: str = "engine test") -> Any:
        """Another connection."""
        made = await self._connect(name)
        self.connections.append(made)
        return made

    @abstractmethod
    async def _connect(self, name: str) -> Any:
        """A connection of that name."""

    @abstractmethod
    async def create_account(self, account_id: bytes, *flags: str) -> None:
        """An account."""

    @abstractmethod
    async def dead_letters(self) -> list[Any]:
        """All of them, in the order of the stream."""

    async def worker(self, connection: Any, shards: Sequence[int] | None = None) -> bytes:
        """Register a worker; returns its id."""
        worker = uuid.uuid4().bytes
        await run(connection, "register_worker", worker, "host", 1, 60.0, shards)
        return worker

    def close(self) -> None:
        """Cut what is open."""
        for connection in self.connections:
            connection.terminate()


class Memory(Side):
    """The simulator's."""

    def __init__(self) -> None:
        super().__init__()
        self.database = Database(4, Network())
        self.database.lock_seconds_max = LOCK_SECONDS_MAX
        self._connector = Connector(self.database, self.database.network)

    async def _connect(self, name: str) -> Any:
        return await self._connector("postgresql://memory", name)

    async def create_account(self, account_id: bytes, *flags: str) -> None:
        self.database.create_account(account_id, 1, flags)

    async def dead_letters(self) -> list[Any]:
        rows = self.database.tables["dead_letters"].all(self.database.snapshot())
        return sorted(rows, key=lambda row: row["ms"])


class Real(Side):
    """A real Postgres."""

    def __init__(self, ledger: Ledger) -> None:
        super().__init__()
        self._ledger = ledger

    async def _connect(self, name: str) -> Any:
        connection = await connect(self._ledger.engine_dsn, name)
        await connection.execute(f"SET lock_timeout = {round(LOCK_SECONDS_MAX * 1000)}")
        return connection

    async def create_account(self, account_id: bytes, *flags: str) -> None:
        await self._ledger.sql(
            "INSERT INTO ledger.accounts (id, ledger, code, flags) VALUES ($1, 1, 1, $2)",
            uuid.UUID(bytes=account_id),
            list(flags),
        )

    async def dead_letters(self) -> list[Any]:
        return await self._ledger.sql("SELECT * FROM ledger.dead_letters ORDER BY ms")


async def run(connection: Any, name: str, *args: Any) -> list[dict[str, Any]]:
    """The rows of a named statement."""
    return [dict(row) for row in await connection.fetch(statement(name), *args)]


async def value(connection: Any, name: str, *args: Any) -> Any:
    """The first value of a named statement."""
    return await connection.fetchval(statement(name), *args)


async def fence(connection: Any, worker: bytes, sequence: int, kind: str = "flush") -> Any:
    """Add to a chain."""
    number = await value(connection, "reserve_number")
    return await value(
        connection, "fence", worker, sequence, number, kind, TIME, 0, 0, 0, bytes(32), []
    )


async def copy_spent(connection: Any, *ids: bytes, number: int = 1 << 20) -> None:
    """Spend ids by COPY."""
    rows = [
        struct.pack(
            ">hi16siqihihih", 5, 16, one, 8, number + at, 2, 0, 2, 0, 2, 0
        )
        for at, one in enumerate(ids)
    ]  # fmt: skip
    data = b"".join((b"PGCOPY\n\xff\r\n\0", bytes(8), *rows, b"\xff\xff"))

    async def source():
        yield data

    await connection.copy_to_table(
        "spent",
        schema_name="ledger",
        columns=["id", "number", "flags", "shard", "outcome"],
        format="binary",
        source=source(),
    )


async def waits(task: "asyncio.Task[Any]") -> bool:
    """Whether a statement waits for somebody: it is not through when much else would be."""
    await asyncio.wait([task], timeout=0.3)
    return not task.done()
