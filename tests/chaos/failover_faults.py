"""Postgres fails over: a standby that confirmed every commit takes the place of the primary."""

import asyncio

from engine.servers.process import remove_tree
from tests.chaos.faults import World, fault
from tests.standbys import Pair, copy_of, promote, set_confirming


@fault(1)
async def postgres_failed_over(world: World) -> None:
    """A standby is made of the primary under load, confirms for a while, and is promoted.

    From when it follows, no COMMIT is answered without it: what was acknowledged is there after it.
    """
    primary = world.servers.postgres
    world.failovers += 1
    directory = world.servers.directory / f"postgres{world.failovers}"
    standby = await asyncio.to_thread(copy_of, primary, directory)
    await set_confirming(primary, standby)
    await asyncio.to_thread(standby.start)
    await Pair(world.servers, standby).together()
    seconds = world.lasts_seconds()
    world.say(f"Postgres has a standby that confirms for {seconds:.1f} s, and fails over to it")
    await asyncio.sleep(seconds)
    await asyncio.to_thread(primary.kill)
    await promote(standby)
    world.servers.postgres = standby
    for proxy in (world.front, *(links[0] for links in world.crew.links)):
        await proxy.point_at(standby.dsn)
    await asyncio.to_thread(remove_tree, primary.directory)
