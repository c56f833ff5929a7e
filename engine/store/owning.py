"""Who owns which shard: workers come, stay alive, claim and release, all in rows."""

import os
import socket
from collections.abc import Collection
from typing import Final

from engine.nouns import ID_ZERO
from engine.store.connection import translated
from engine.store.link import Link

NOBODY: Final = ID_ZERO
"""The worker that owns what nobody owns."""


class Owning:
    """A worker's ownership of shards.

    Args:
        link: The worker's connections.
    """

    def __init__(self, link: Link) -> None:
        self._link = link

    async def register(self, lease_seconds: float) -> None:
        """Enter this worker, with an empty chain."""
        arguments = self._link.worker, socket.gethostname(), os.getpid(), lease_seconds
        await self._link.read("register_worker", *arguments, locked=True)

    async def beat(self, lease_seconds: float) -> None:
        """Stay alive for another lease, by Postgres's clock."""
        await self._link.read("beat", self._link.worker, lease_seconds)

    async def expire(self) -> None:
        """Let the worker's shards be taken at once: it stops."""
        await self._link.read("expire_worker", self._link.worker)

    async def claim(self, shards: Collection[int], time: int) -> list[int]:
        """Take over those of `shards` that are free or whose owner's heartbeat has expired.

        One transaction a former owner: both rows locked in order, tested again in the next
        statement, and a row in both chains, so that whatever the former owner still has
        under way fails.

        Returns:
            The shards that are this worker's now, by this call.
        """
        taken: list[int] = []
        rows = await self._link.read("owners", list(shards), locked=True)
        for owner in sorted({row["worker"] for row in rows} - {self._link.worker}):
            taken += await self._claim_from(owner, shards, time)
        return taken

    async def _claim_from(self, owner: bytes, shards: Collection[int], time: int) -> list[int]:
        link = self._link
        connection = link.writer
        with translated():
            await connection.execute("BEGIN")
            try:
                await connection.fetch(link.text("lock_workers"), sorted([link.worker, owner]))
                rows = await connection.fetch(link.text("owners"), list(shards))
                taken = [r["shard"] for r in rows if r["worker"] == owner and not r["alive"]]
                if taken:
                    sequence = await connection.fetchval(link.text("newest_sequence"), link.worker)
                    number = await link.reserve_number()
                    await connection.execute(
                        link.text("fence"),
                        *(link.worker, sequence + 1, number, "claim", time, 0, 0, 0),
                    )
                    await connection.execute(link.text("lend"), [owner], "claim", time, number)
                    await connection.execute(link.text("set_owner"), taken, link.worker)
                await connection.execute("COMMIT")
            except BaseException:
                await link.roll_back()
                raise
        return taken

    async def release(self, time: int) -> list[int]:
        """Give all shards back, so that others need not wait for the heartbeat to expire.

        Returns:
            The shards that are nobody's now.
        """
        link = self._link
        connection = link.writer
        with translated():
            await connection.execute("BEGIN")
            try:
                await connection.fetch(link.text("lock_workers"), sorted([link.worker, NOBODY]))
                rows = await connection.fetch(link.text("owned_by"), link.worker)
                if rows:
                    chains = sorted([link.worker, NOBODY])
                    await connection.execute(link.text("lend"), chains, "release", time, None)
                    await connection.execute(
                        link.text("set_owner"), [row["shard"] for row in rows], NOBODY
                    )
                await connection.execute("COMMIT")
            except BaseException:
                await link.roll_back()
                raise
        return [row["shard"] for row in rows]
