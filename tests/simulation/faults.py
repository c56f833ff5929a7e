"""What goes wrong in a run: drawn from its seed, and over after a while."""

import asyncio
import random
from collections.abc import Sequence
from typing import Any

from tests.simulation.world import Participant, World


class Faults:
    """The troubles of one world.

    Args:
        world: Whose.
        chance: Of all that is drawn.
        seconds: For how long things go wrong.
    """

    def __init__(self, world: World, chance: random.Random, seconds: float) -> None:
        self.world = world
        self.random = chance
        self.seconds = seconds
        self.crew: dict[str, Participant] = {}
        self.starts = 0
        self._tasks: list[asyncio.Task[None]] = []
        self._older: Any = None
        kinds = [
            self._kill, self._kill, self._freeze, self._freeze, self._freeze_at, self._freeze_at,
            self._zombie, self._zombie, self._replace, self._cut, self._cut_at, self._postgres,
            self._redis, self._redis_older, self._skew, self._storm, self._move, self._move,
            self._move,
        ]  # fmt: skip
        self.kinds = chance.sample(kinds, chance.choice([0, 1, 2, 3, 5]))

    # Workers.

    def open_crew(self) -> None:
        """The first workers: each with its shards, or with its share."""
        count = self.random.choice([1, 2, 2, 3])
        shards = list(range(self.world.database.shard_count))
        self.random.shuffle(shards)
        sharing = self.random.random() < 0.5
        for number in range(count):
            wanted = None if sharing else sorted(shards[number::count])
            if wanted != []:
                self.start(f"w{number}", wanted)

    def start(self, slot: str, shards: Sequence[int] | None) -> None:
        self.starts += 1
        made = self.world.participant(f"{slot}#{self.starts}", shards)
        if self.random.random() < 0.4:
            made.skew = self.random.choice([-2.0, -0.2, 0.2, 2.0])
        self.crew[slot] = made

    def _anyone(self) -> tuple[str, Participant] | None:
        running = [(slot, one) for slot, one in self.crew.items() if one.running]
        return self.random.choice(running) if running else None

    # Troubles.

    async def run(self) -> None:
        """Let all of it happen, then repair everything."""
        for kind in self.kinds:
            delay = self.random.uniform(0, self.seconds)
            self._tasks.append(asyncio.ensure_future(self._later(delay, kind)))
        await asyncio.sleep(self.seconds)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._repair()

    async def _later(self, delay: float, kind: Any) -> None:
        await asyncio.sleep(delay)
        await kind()

    def _repair(self) -> None:
        world = self.world
        world.network.loss = world.network.loss_of_commits = 0.0
        for gate in world.database.gates:
            gate.open()
        world.database.gates.clear()
        if not world.database.up:
            world.database.start()
        if not world.log.up:
            world.log.start()
        for one in world.participants:
            # Some never come back, as when their machine is lost: others go on all the same.
            if one.process.frozen and self.random.random() < 0.6:
                one.thaw()
        for slot, one in list(self.crew.items()):
            if not one.running or one.process.frozen or one.stopping:
                self.start(slot, one.shards)

    async def _kill(self) -> None:
        found = self._anyone()
        if found is None:
            return
        slot, one = found
        one.kill()
        await asyncio.sleep(self.random.choice([0.0, 0.5, 3.0]))
        self.start(slot, one.shards)

    async def _replace(self) -> None:
        """A clean stop, and another in its place; perhaps their shards change hands."""
        found = self._anyone()
        if found is None:
            return
        slot, one = found
        other = self.random.choice(list(self.crew))
        wanted = one.shards
        self.world.trace(one.name, "stops")
        one.worker.stop()
        if other != slot and self.crew[other].running:
            theirs = self.crew[other].shards
            self.crew[other].worker.stop()
            await asyncio.sleep(self.random.choice([0.0, 0.05]))
            self.start(other, wanted)
            wanted = theirs
        self.start(slot, wanted)

    async def _move(self) -> None:
        """An operator moves shards between workers, some of them more than once."""
        for _ in range(self.random.choice([1, 3, 8])):
            found = self._anyone()
            if found is not None and self.world.database.up:
                shard = self.random.randrange(self.world.database.shard_count)
                self.world.trace("operator", "moves", shard, "to", found[1].name)
                self.world.database.ask_move(shard, found[1].id)
            await asyncio.sleep(self.random.choice([0.0, 0.02, 0.3]))

    async def _freeze(self) -> None:
        found = self._anyone()
        if found is not None:
            await self._pause(found[1])

    async def _pause(self, one: Participant) -> None:
        if self.random.random() < 0.5:
            # A stand-by, so that somebody takes over.
            self.start(f"standby of {one.name}", one.shards)
        one.freeze()
        lease = self.world.settings.lease_seconds
        await asyncio.sleep(self.random.choice([0.1, lease * 1.2, lease * 3]))
        if one.process.frozen:
            one.thaw()

    async def _zombie(self) -> None:
        """Frozen until somebody has taken over, and back in the very moment."""
        found = self._anyone()
        if found is None:
            return
        one = found[1]
        owned = one.owned
        self.start(f"standby of {one.name}", one.shards)
        await asyncio.sleep(self.random.choice([0.0, 0.05]))
        one.freeze()
        while owned and all(one.owner_of(shard) == one.id for shard in owned):
            self.world.database.owner_changed.clear()
            await self.world.database.owner_changed.wait()
        await asyncio.sleep(self.random.choice([0.0, 0.002, 0.01]))
        if one.process.frozen:
            one.thaw()

    async def _freeze_at(self) -> None:
        """Frozen while a statement of its is under way."""
        found = self._anyone()
        if found is not None and await self._reaches(found[1]):
            await self._pause(found[1])

    async def _reaches(self, one: Participant) -> bool:
        statement = self.random.choice(one.statements)
        name = one.connection_name
        gate = self.world.database.gate(statement, name, after=self.random.random() < 0.5)
        try:
            async with asyncio.timeout(3):
                await gate.reached.wait()
        except TimeoutError:
            return False
        finally:
            # It goes on in a moment, when whatever happens at it has begun.
            asyncio.get_running_loop().call_soon(self._open, gate)
        return one.running

    def _open(self, gate: Any) -> None:
        gate.open()
        if gate in self.world.database.gates:
            self.world.database.gates.remove(gate)

    async def _cut(self) -> None:
        found = self._anyone()
        if found is not None:
            self._cut_all(found[1])

    async def _cut_at(self) -> None:
        found = self._anyone()
        if found is not None and await self._reaches(found[1]):
            self._cut_all(found[1])

    def _cut_all(self, one: Participant) -> None:
        linger = self.world.network.linger()
        for socket in list(one.process.sockets):
            if self.random.random() < 0.7:
                self.world.trace(one.name, "cut", type(socket).__name__)
                if hasattr(socket, "terminate"):
                    socket.cut(linger, drops=self.random.random() < 0.5)
                else:
                    socket.cut()

    async def _postgres(self) -> None:
        self.world.database.stop()
        await asyncio.sleep(self.random.choice([0.01, 0.5, 2.0]))
        self.world.database.start()

    async def _redis(self) -> None:
        self.world.log.stop()
        await asyncio.sleep(self.random.choice([0.01, 1.0]))
        self.world.log.start()

    async def _redis_older(self) -> None:
        """It comes back as it was a while ago, or with nothing."""
        kept = self.world.log.checkpoint() if self.random.random() < 0.7 else {}
        await asyncio.sleep(self.random.uniform(0, 1))
        self.world.log_lost = True
        self.world.log.stop()
        await asyncio.sleep(self.random.choice([0.01, 0.5]))
        self.world.log.start(kept)

    async def _skew(self) -> None:
        found = self._anyone()
        if found is not None:
            found[1].skew += self.random.choice([-3.0, -1.0, 1.0, 3.0])
            self.world.trace(found[1].name, "its clock jumps", found[1].skew)

    async def _storm(self) -> None:
        network = self.world.network
        network.loss_of_commits = self.random.choice([0.2, 0.7])
        network.loss = self.random.choice([0.0, 0.05])
        await asyncio.sleep(self.random.uniform(0.2, 2.0))
        network.loss = network.loss_of_commits = 0.0
