"""One run from one seed: a world, its traffic, its troubles, and the judgement."""

import asyncio
import gc
import random
from typing import Any

import msgspec

from tests.simulation.faults import Faults
from tests.simulation.freezer import Freezer
from tests.simulation.judge import Judge
from tests.simulation.loop import SimulatedLoop, StuckError
from tests.simulation.replay import broken
from tests.simulation.tables import entry_key
from tests.simulation.traffic import Producer, Traffic
from tests.simulation.world import SETTINGS, World, sized, told_to

QUIET_SECONDS_MAX = 90.0
"""Once nothing goes wrong any more, all is decided and answered within it."""


class Run(msgspec.Struct):
    """A run that is over."""

    seed: int
    world: World
    failure: BaseException | None = None


def run_seed(seed: int) -> Run:
    """Simulate a seed to its end."""
    chance = random.Random(f"run {seed}")
    settings = msgspec.structs.replace(
        SETTINGS,
        flush_transfers_max=chance.choice([3, 20, 20_000]),
        inbox_transfers_max=chance.choice([4, 40_000]),
        accounts_max=chance.choice([2, 2_000_000]),
        horizon_seconds=chance.choice([1, 60]),
    )
    world = World(seed, chance.choice([2, 4]), settings)
    run = Run(seed, world)
    loop = SimulatedLoop()
    small_postings_max = chance.choice([0, 3, 400])
    ahead_transfers_min = random.Random(f"ahead {seed}").choice([1, 1, 4])
    freezes = random.Random(f"waiting {seed}")
    sizes = sized(
        small_postings_max=small_postings_max,
        ahead_transfers_min=ahead_transfers_min,
        waiting_max=freezes.choice([3, 100_000, 100_000]),
        released_max=freezes.choice([1, 1_000]),
        cut_rows=random.Random(f"cuts {seed}").choice([1, 1, 100]),
    )
    with told_to(world), sizes:
        try:
            loop.run_until_complete(_live(world, chance, seed))
            check_errors(loop)
            Judge(world).judge()
        except (Exception, StuckError) as failure:  # noqa: BLE001 - the run's result
            run.failure = failure
        finally:
            loop.close()
    return run


def check_errors(loop: SimulatedLoop) -> None:
    """Raise where an error was not taken."""
    gc.collect()  # tasks tell of errors that nobody took when they are collected
    if loop.errors:
        raise broken("nothing vanishes", "an error was not taken:", loop.errors[0])


async def _live(world: World, chance: random.Random, seed: int) -> None:
    traffic = Traffic(world, chance, seed)
    seconds = chance.choice([1.0, 4.0])
    faults = Faults(world, chance, seconds)
    world.pauses = chance.choice([world.pauses, (0, 0.2, seconds / 3, seconds / 2)])
    try:
        faults.open_crew()
        producers = [
            Producer(traffic, f"p{number}", chance.randint(1, 3))
            for number in range(chance.choice([1, 2, 3]))
        ]
        tasks = [asyncio.ensure_future(producer.run()) for producer in producers]
        freezer = Freezer(world, traffic.accounts, seed, seconds)
        freezing = asyncio.ensure_future(freezer.run())
        await faults.run()
        await freezing
        await freezer.thaw_all()

        def unanswered() -> list[str]:
            return sorted(name for producer in producers for name in producer.unanswered)

        try:
            await world.until(lambda: all(t.done() for t in tasks), "", QUIET_SECONDS_MAX)
            for task in tasks:
                task.result()
            await world.until(lambda: not _waiting(world), "", QUIET_SECONDS_MAX)
            await world.until(lambda: not _parked(world), "", QUIET_SECONDS_MAX)
            await world.until(lambda: not _overdue(world), "", QUIET_SECONDS_MAX)
        except AssertionError:
            raise broken(
                "nothing vanishes", "unanswered:", unanswered(), "undecided:", _waiting(world),
                "not lapsed:", _overdue(world), "wait still:", _parked(world),
            ) from None  # fmt: skip
        await leave(world, calm=not faults.kinds)
    finally:
        await world.end()


def _check_ended_well(world: World) -> None:
    for one in world.participants:
        if one.task is not None and not (one.process.dead or one.process.frozen):
            one.task.result()


async def leave(world: World, *, calm: bool) -> None:
    """Everybody stops cleanly; where nothing went wrong nobody owns anything then."""
    running = [one for one in world.participants if one.running and not one.process.frozen]
    for one in running:
        one.worker.stop()
    for one in running:
        if one.task is not None:
            await asyncio.wait_for(asyncio.shield(one.task), 60)
    _check_ended_well(world)
    snapshot = world.database.snapshot()
    owners = {row["worker"] for row in world.database.tables["owners"].all(snapshot)}
    left = owners & {one.id for one in world.participants if not one.process.dead}
    if left and calm:
        raise broken("one writer", "shards were not given back by", *map(world.name_of, left))


def _waiting(world: World) -> list[str]:
    """Streams that still hold entries."""
    return sorted(
        name.decode()
        for name, stream in world.log.streams.items()
        if b":transfers:" in name and stream.entries
    )


def _parked(world: World) -> list[Any]:
    """Entries that wait for a thaw."""
    snapshot, tables = world.database.snapshot(), world.database.tables
    waiting, done = (
        {entry_key(row) for row in tables[name].all(snapshot)} for name in ("waiting", "released")
    )
    return sorted(waiting - done)


def _overdue(world: World) -> list[bytes]:
    """Holds that lapsed more than some seconds ago and are pending still."""
    database = world.database
    snapshot = database.snapshot()
    latest = database.clock() - 6_000_000
    return [
        row["id"]
        for row in database.tables["spent"].all(snapshot)
        if row["expires_at"] is not None
        and row["expires_at"] < latest
        and database.tables["resolutions"].one(snapshot, "resolutions_pkey", row["id"]) is None
    ]
