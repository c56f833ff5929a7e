"""Who owns which shard: workers come, stay alive, claim and release, all in rows.

Whatever changes here inserts the next number in the chains of both workers, the one that
loses and the one that gains, under the locks of both. It does so only as long as its shards
and their positions are those that it knows.
"""

import asyncio
import os
import socket
from collections.abc import Collection, Mapping, Sequence
from typing import Final

import structlog

from engine.book.content import digest_of_change
from engine.errors import ChainMovedError
from engine.ledger.nouns import ID_ZERO
from engine.store.commit import commit_and_settle
from engine.store.connections import Connections, bounded
from engine.store.driver_errors import check_written, translated
from engine.store.records import holding_of, mark_of, owned_of
from engine.store.rows import OwnershipChange, ShardLoad, ShardProgress
from shards.placement import Holding, LiveWorker

NOBODY: Final = ID_ZERO
"""The worker that owns what nobody owns."""

IN_THE_WAY_SECONDS: Final = 0.5
"""Who waits for longer looks whether somebody frozen is in the way."""

_log = structlog.get_logger()


class Ownership:
    """A worker's ownership of shards.

    Args:
        connections: The worker's connections.
    """

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    # Being alive.

    async def register(self, lease_seconds: float, shards: Collection[int] | None = None) -> None:
        """Enter this worker, with an empty chain.

        Args:
            lease_seconds: How long it is alive without a heartbeat.
            shards: Those it was told to work on; None where it takes its fair share.
        """
        listed = None if shards is None else sorted(shards)
        host, process = socket.gethostname(), os.getpid()
        arguments = (self._connections.worker, host, process, lease_seconds, listed)
        await self._connections.read("register_worker", *arguments, locked=True)

    async def heartbeat(self, lease_seconds: float) -> None:
        """Stay alive for another lease, by Postgres's clock."""
        await self._connections.watch("heartbeat", self._connections.worker, lease_seconds)

    async def note_wait(self, what: str, seconds: float) -> None:
        """Say what this worker waits for; believed for so many seconds."""
        await self._connections.watch("worker_waits", self._connections.worker, what, seconds)

    async def expire_lease(self) -> None:
        """Be alive no more: what it still owns may be taken at once."""
        await self._connections.watch("expire_worker", self._connections.worker)

    async def record_loads(self, loads: Sequence[ShardLoad], commit_seconds: float) -> None:
        """Write down what was decided lately of each shard, and how long a commit took at most."""
        shards, rates, answers = ([load[place] for load in loads] for place in range(3))
        arguments = (self._connections.worker, shards, rates, answers, commit_seconds)
        await self._connections.watch("record_loads", *arguments)

    async def terminate_blockers(self) -> None:
        """Where a write has been waiting: end the backends of frozen workers that it waits for."""
        since = self._connections.waits_since
        if since is None or asyncio.get_running_loop().time() - since < IN_THE_WAY_SECONDS:
            return
        if self._connections.writer.is_closed():  # it was lost, and its COMMIT is being looked for
            return
        pid, me = self._connections.writer.get_server_pid(), self._connections.worker
        for row in await self._connections.watch("terminate_blockers", pid, me):
            if row["ended"]:
                _log.warning("frozen_backend_ended", backend=row["application_name"])
            else:  # The owner is no member of its login, as `engine roles --login` makes it.
                _log.error("frozen_backend_stays", backend=row["application_name"])

    # Looking.

    async def wait_for_changes(self, seconds_max: float) -> None:
        """Wait until an owner or a move has changed, but not for longer than this."""
        await self._connections.wait_for_change(seconds_max)

    async def look_at_shards(self) -> tuple[list[Holding], list[LiveWorker], int]:
        """Who owns what, what is asked for, and who is alive; changes from now on are heard.

        And the number of the newest freeze or thaw, 0 where there is none.
        """
        self._connections.changed.clear()
        shards = await self._connections.watch("look_at_shards")
        workers = await self._connections.watch("look_at_workers")
        live = [
            LiveWorker(
                row["worker"],
                None if row["shards"] is None else frozenset(row["shards"]),
                row["drained"],
            )
            for row in workers
        ]
        newest_freeze = max((row["newest_freeze"] or 0 for row in shards), default=0)
        return [holding_of(row) for row in shards], live, newest_freeze

    async def read_positions(self, shards: Collection[int]) -> dict[int, ShardProgress]:
        """How far shards got, whose owners are locked or which are this worker's."""
        rows = await self._connections.read("newest_positions", list(shards), locked=True)
        return {row["shard"]: owned_of(row) for row in rows}

    async def read_own_chain(self, owned: Mapping[int, ShardProgress]) -> OwnershipChange:
        """The end of the own chain, its row being locked and nothing of its own under way.

        Others may have lent the chain since the worker looked last; what it reads from now on
        is what they wrote, and nobody can get ahead of it any more.

        Args:
            owned: The shards that the worker knows to be its, and how far they got.

        Returns:
            The next number, the shards with their times, and what is frozen.

        Raises:
            ChainMovedError: The shards or their positions are others.
        """
        rows = await self._connections.read("ownership", self._connections.worker, locked=True)
        found = {row["shard"]: owned_of(row) for row in rows if row["shard"] is not None}
        if {s: o.position for s, o in found.items()} != {s: o.position for s, o in owned.items()}:
            raise ChainMovedError("shards or positions are others now")
        first = rows[0]
        return OwnershipChange(first["sequence"] + 1, found, mark_of(first), first["written"])

    # Asking for shards.

    async def ask_for_shards(self, sources: Mapping[int, bytes]) -> None:
        """Ask for shards, from their owners."""
        me = [self._connections.worker] * len(sources)
        shards, owners = list(sources), list(sources.values())
        await self._connections.watch("ask_moves", None, shards, owners, me, self._connections.name)

    async def refuse_moves(self, moves: Mapping[int, str]) -> None:
        """Let moves come to nothing, each for its reason."""
        for move, why in moves.items():
            await self._connections.watch("refuse_moves", [move], why)

    async def note_moves_done(self, shards: Collection[int]) -> None:
        """Say that these shards are read on."""
        if shards:
            await self._connections.watch("moves_done", list(shards), self._connections.worker)

    # Claiming and releasing.

    async def read_owners(self, shards: Collection[int]) -> list[bytes]:
        """The owners of shards other than this worker, sorted."""
        rows = await self._connections.read("owners", list(shards), locked=True)
        return sorted({row["worker"] for row in rows} - {self._connections.worker})

    async def claim(
        self,
        owner: bytes,
        shards: Collection[int],
        *,
        owned: Mapping[int, ShardProgress],
        time: int,
    ) -> OwnershipChange | None:
        """Take over those of `shards` that are `owner`'s, if it is nobody or has expired.

        Both rows are locked in order, all is tested again in the next statement, and both
        chains get a row, so that whatever the former owner has under way fails.

        Args:
            owner: The former owner.
            shards: Those wanted.
            owned: The worker's own; nothing of them is under way.
            time: Microseconds since 1970.

        Returns:
            What is this worker's now; None where nothing was to be had.

        Raises:
            ChainMovedError: The worker's own shards are others; nothing is claimed.
            ConflictError: A lock could not be had in time.
            TryAgainError: Postgres is out of reach; whether it is claimed may be unknown.
        """
        connections = self._connections
        connection = connections.writer
        with translated(connections.where), connections.waiting():
            try:
                async with bounded(f"claiming shards {sorted(shards)}"):
                    await connection.execute("BEGIN")
                    await connections.write("lock_workers", sorted([connections.worker, owner]))
                    # The next statement: one that waits for a lock reads what was before.
                    rows = await connections.write("owners", list(shards))
                    taken = [r["shard"] for r in rows if r["worker"] == owner and not r["alive"]]
                    if not taken:
                        await connection.execute("ROLLBACK")
                        return None
                    chain = await self.read_own_chain(owned)
                    sequence, time = chain.sequence, max(time, chain.freezes.time + 1)
                    number = await self._change(
                        "claim", taken, owner, connections.worker, sequence, time
                    )
                    await connections.write("moves_claimed", taken, connections.worker)
            except BaseException:
                await connections.roll_back()
                raise
            await commit_and_settle(connections, sequence, number, connection.execute("COMMIT"))
        chain.owned |= await self.read_positions(taken)
        return chain

    async def release(
        self,
        shards: Collection[int],
        *,
        owned: Mapping[int, ShardProgress],
        time: int,
        paused_seconds: float = 0.0,
        leaving: bool = False,
    ) -> OwnershipChange:
        """Give shards back; one that is asked for is kept free for who asked.

        Args:
            shards: Some of `owned`.
            owned: The worker's own; nothing of them is under way.
            time: Microseconds since 1970.
            paused_seconds: Since when nothing of them was decided.
            leaving: The worker stops: it is not alive any more.

        Returns:
            What is this worker's now.

        Raises:
            ChainMovedError, ConflictError, TryAgainError: As `claim`.
        """
        connections = self._connections
        connection = connections.writer
        with translated(connections.where), connections.waiting():
            try:
                async with bounded(f"releasing shards {sorted(shards)}"):
                    await connection.execute("BEGIN")
                    await connections.write("lock_workers", sorted([connections.worker, NOBODY]))
                    chain = await self.read_own_chain(owned)
                    sequence, time = chain.sequence, max(time, chain.freezes.time + 1)
                    number = await self._change(
                        "release", shards, connections.worker, NOBODY, sequence, time
                    )
                    await connections.write("moves_released", list(shards), paused_seconds)
                    if leaving:
                        await connections.write("expire_worker", connections.worker)
            except BaseException:
                await connections.roll_back()
                raise
            await commit_and_settle(connections, sequence, number, connection.execute("COMMIT"))
        for shard in shards:
            chain.owned.pop(shard, None)
        return chain

    async def _change(
        self,
        kind: str,
        shards: Collection[int],
        former: bytes,
        worker: bytes,
        sequence: int,
        time: int,
    ) -> int:
        """Write a change of owner, both workers being locked; returns its number."""
        connections = self._connections
        number: int = await connections.reserve_number()
        digest = digest_of_change(shards, former, worker)
        me = connections.worker
        fenced = await connections.write(
            "fence", me, sequence, number, kind, time, 0, 0, 0, digest, []
        )
        other = former if worker == connections.worker else worker
        named = number if kind == "claim" else None
        lent = await connections.write("append_lent_flush", [other], kind, time, named)
        check_written("ledger.flushes", 2, len(fenced) + len(lent))
        changed = await connections.write("change_owner", list(shards), former, worker, number)
        check_written("ledger.ownership", len(shards), len(changed))
        return number
