"""Who owns which shard of flows: workers come, stay alive, claim and release, all in rows."""

import os
import socket
from collections.abc import Collection
from typing import Any, Final
from uuid import UUID

import msgspec

from engine.errors import ChainMovedError
from engine.ledger.nouns import ID_ZERO
from engine.store.commit import commit_and_settle
from engine.store.connections import Connect, Connections
from engine.store.driver import connect
from engine.store.driver_errors import translated

NOBODY: Final = ID_ZERO
"""The worker that owns what nobody owns."""


class FlowConnections(Connections):
    """Connections of a flow worker: its chain stands in tables of its own."""

    def __init__(self, dsn: str, worker: bytes, connect: Connect = connect) -> None:
        super().__init__(dsn, worker, connect)
        self.name = f"engine flows {UUID(bytes=worker)}"

    def text(self, name: str) -> str:
        """The text of a named statement; that a flush is there is asked of the chains of flows."""
        text = super().text(name)
        return text.replace("ledger.", "flows.") if name == "find_flush" else text


class Ownership(msgspec.Struct):
    """What a worker owns, in one snapshot."""

    sequence: int
    shards: set[int]
    number: int
    now: int
    """Postgres's clock, in microseconds."""


class FlowOwnership:
    """A flow worker's ownership of shards.

    Args:
        connections: The worker's connections.
    """

    def __init__(self, connections: FlowConnections) -> None:
        self.worker = connections.worker
        self._connections = connections

    async def register(self, lease_seconds: float) -> None:
        """Enter this worker."""
        await self._connections.read(
            "flows_register", self.worker, socket.gethostname(), os.getpid(), lease_seconds
        )

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
                change = (list(shards), former, worker, again.number, self.worker)
                rows = await connections.write("flows_change_owner", *change)
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


def _check_unmoved(owned: Ownership, again: Ownership) -> None:
    if again.shards != owned.shards or again.sequence != owned.sequence:
        raise ChainMovedError("the shards of this flow worker are others now")
