"""An operator who freezes and thaws meanwhile: drawn from the seed, apart from the rest."""

import asyncio
import contextlib
import random
from typing import Any

from engine.errors import InputError, TryAgainError
from engine.store.freezes import FreezeAct, set_freeze
from tests.simulation.connection import Connector
from tests.simulation.statements_reading import in_force
from tests.simulation.tables import Row
from tests.simulation.world import World

TRIES_SECONDS_MAX = 120.0
"""So long it is tried to thaw at the end: whoever is frozen may stand in the way."""


async def freeze(world: World, kind: Any, what: object, *, declines: bool = False) -> int:
    """Freeze something, by the real code; returns the number of the freeze."""
    return await _act(world, "freeze", kind, what, declines=declines)


async def thaw(world: World, kind: Any, what: object, *, declines: bool = False) -> int:
    """Thaw it again."""
    return await _act(world, "thaw", kind, what, declines=declines)


async def _act(world: World, act: Any, kind: Any, what: object, *, declines: bool) -> int:
    world.trace("operator", act, kind, what, "declines" if declines else "")
    asked = FreezeAct(act, kind, str(what), "an operator", "a test", declines)
    connector = Connector(world.database, world.network)
    number = await set_freeze("postgresql://memory", asked, connector)
    world.trace("operator", act, kind, what, "is number", number)
    return number


def frozen_now(world: World) -> list[Row]:
    """What is frozen."""
    return in_force(world.database.tables["freezes"].all(world.database.snapshot()))


class Freezer:
    """The operator.

    Args:
        world: Where.
        accounts: Which may be frozen.
        seed: Of what is drawn.
        seconds: How long.
    """

    def __init__(self, world: World, accounts: list[str], seed: int, seconds: float) -> None:
        self._world = world
        self._accounts = accounts
        self._random = random.Random(f"freezes {seed}")
        self._seconds = seconds
        self._acts = self._random.choice([0, 0, 1, 2, 4])

    async def run(self) -> None:
        """Freeze and thaw a few times."""
        for _ in range(self._acts):
            await asyncio.sleep(self._random.uniform(0, self._seconds / 2))
            with contextlib.suppress(TryAgainError, InputError):
                await self._act()

    async def _act(self) -> None:
        draw = self._random
        declines = draw.random() < 0.25
        frozen = frozen_now(self._world)
        if frozen and draw.random() < 0.4:
            row = draw.choice(frozen)
            await thaw(self._world, row["kind"], row["what"], declines=declines)
            return
        kind = draw.choice(["account", "account", "account", "shard", "shard", "ledger", "code"])
        what: object = 1
        if kind == "account":
            what = draw.choice(self._accounts)
        elif kind == "shard":
            what = draw.randrange(self._world.database.shard_count)
        await freeze(self._world, kind, what, declines=declines)

    async def thaw_all(self) -> None:
        """Nothing is frozen in the end."""
        deadline = asyncio.get_running_loop().time() + TRIES_SECONDS_MAX
        while rows := frozen_now(self._world):
            kind, what = rows[0]["kind"], rows[0]["what"]
            try:
                await thaw(self._world, kind, what, declines=self._random.random() < 0.2)
            except (TryAgainError, InputError):
                if asyncio.get_running_loop().time() > deadline:
                    raise
                await asyncio.sleep(0.2)
