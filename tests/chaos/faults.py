"""What goes wrong. Each fault lasts as long as its function runs, and leaves nothing behind."""

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias

import redis.asyncio
import redis.exceptions

from engine.servers import Servers
from tests.chaos.crew import Crew
from tests.chaos.fleet import Fleet
from tests.clusters import Cluster
from tests.desks import account
from tests.fuzz.actions import ACTIONS
from tests.fuzz.attack import HOSTILE_ACCOUNTS, Attack
from tests.fuzz.contents import Contents
from tests.fuzz.sent import Sent
from tests.ledgers import Ledger, until
from tests.proxies import Proxy

LASTS_SECONDS_MAX: Final = 8.0
"""Of one that ends by itself."""

HOSTILE_ACTIONS_MAX: Final = 8
HOSTILE_ACTIONS: Final = list(ACTIONS)
CLOCKS_SECONDS: Final = (-31_536_000, -3600, -10, 10, 3600, 31_536_000)
"""How far clocks are off."""


class World:
    """What faults are done to.

    Args:
        servers: Whose.
        ledger: Theirs.
        crew: Of workers.
        fleet: Of producers.
        chance: Where all is drawn from.
        say: Gets what is done.
        front: Before Postgres, for all but workers, who have links of their own.
        cluster: Of the streams, where they are on one.
    """

    def __init__(
        self,
        servers: Servers,
        ledger: Ledger,
        crew: Crew,
        fleet: Fleet,
        chance: random.Random,
        say: Callable[[str], None],
        front: Proxy,
        cluster: Cluster | None = None,
    ) -> None:
        self.front = front
        self.cluster = cluster
        self.failovers = 0
        self.servers = servers
        self.ledger = ledger
        self.crew = crew
        self.fleet = fleet
        self.chance = chance
        self.say = say
        self.is_on_small_disk = False
        """Whether what the servers keep is on a disk that a fault may fill."""
        self.sent = Sent(ledger)
        """What hostile producers sent."""

    def lasts_seconds(self) -> float:
        """For how long."""
        return self.chance.uniform(0.5, LASTS_SECONDS_MAX)


Fault: TypeAlias = Callable[[World], Awaitable[None]]

FAULTS: Final[dict[str, tuple[Fault, int]]] = {}
"""Each with how often it happens, in proportion."""


def fault(weight: int) -> Callable[[Fault], Fault]:
    """One that happens so often, in proportion."""

    def add(fault: Fault) -> Fault:
        FAULTS[fault.__name__] = fault, weight
        return fault

    return add


# Workers and servers.


@fault(8)
async def worker_killed(world: World) -> None:
    seat = world.crew.any_running(world.chance)
    if seat is not None:
        world.say(f"worker {seat} is killed, and another started")
        await world.crew.kill(seat)


@fault(3)
async def worker_frozen(world: World) -> None:
    seat = world.crew.any_running(world.chance)
    if seat is not None:
        seconds = world.crew.lease_seconds * (0.5 + 2 * world.chance.random())
        world.say(f"worker {seat} is frozen for {seconds:.1f} s")
        worker = world.crew.workers[seat]
        worker.freeze()
        await asyncio.sleep(seconds)
        worker.thaw()


@fault(3)
async def worker_stopped(world: World) -> None:
    seat = world.crew.any_running(world.chance)
    if seat is not None:
        world.say(f"worker {seat} is stopped, and another started")
        await world.crew.stop(seat)


@fault(2)
async def clock_off(world: World) -> None:
    seconds = world.chance.choice(CLOCKS_SECONDS)
    world.say(f"a worker joins whose clock is {seconds:+,} s off, and leaves")
    await world.crew.visit(seconds, world.lasts_seconds())


@fault(1)
async def postgres_stopped(world: World) -> None:
    world.say("Postgres is stopped at once, and started")
    await asyncio.to_thread(world.servers.postgres.stop, "immediate")
    await asyncio.to_thread(world.servers.postgres.start)


@fault(1)
async def valkey_killed(world: World) -> None:
    world.say("Valkey is killed, and started")
    await asyncio.to_thread(world.servers.valkey.kill)
    await asyncio.to_thread(world.servers.valkey.start)


# Links.


@fault(3)
async def link_stalled(world: World) -> None:
    """Nothing passes in either direction, and neither end is told."""
    links = world.crew.links[world.chance.randrange(len(world.crew.links))]
    which = world.chance.randrange(2)
    seconds = world.lasts_seconds()
    world.say(f"a worker's link to {('Postgres', 'Redis')[which]} is silent for {seconds:.1f} s")
    links[which].silent = True
    await asyncio.sleep(seconds)
    links[which].silent = False


@fault(3)
async def commit_lost(world: World) -> None:
    """The next COMMIT of a worker, or its answer, never arrives."""
    links = world.crew.links[world.chance.randrange(len(world.crew.links))]
    loss: Any = world.chance.choice(["request", "answer"])
    world.say(f"the {loss} of a worker's next COMMIT is lost")
    links[0].lose(loss, b"COMMIT\0")
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(links[0].lost.wait(), LASTS_SECONDS_MAX)
    links[0].lose(loss, b"never sent")


# What Redis refuses.


async def _refuses(world: World, begin: Sequence[Any], end: Sequence[Any]) -> None:
    """Redis refuses from one command to the other; whoever is connected connects anew."""
    seconds = world.lasts_seconds()
    world.say(f"Redis refuses for {seconds:.1f} s: {' '.join(map(str, begin))}")
    async with world.ledger.redis() as connection:
        await connection.execute_command(*begin)
        try:
            if world.chance.random() < 0.5:
                await connection.execute_command("CLIENT", "KILL", "TYPE", "normal")
            await asyncio.sleep(seconds)
        finally:
            await connection.execute_command(*end)


@fault(1)
async def redis_paused(world: World) -> None:
    how = world.chance.choice(["ALL", "WRITE"])
    seconds = world.lasts_seconds()
    world.say(f"Redis pauses for {seconds:.1f} s: {how}")
    async with world.ledger.redis() as connection:
        await connection.execute_command("CLIENT", "PAUSE", round(seconds * 1000), how)
        await asyncio.sleep(seconds)  # no command ends it: that would wait too


@fault(1)
async def redis_without_memory(world: World) -> None:
    await _refuses(world, ("CONFIG", "SET", "maxmemory", 1), ("CONFIG", "SET", "maxmemory", 0))


@fault(1)
async def redis_without_replicas(world: World) -> None:
    name = "min-replicas-to-write"
    await _refuses(world, ("CONFIG", "SET", name, 1), ("CONFIG", "SET", name, 0))


@fault(1)
async def redis_read_only(world: World) -> None:
    """As after a failover: READONLY, and MASTERDOWN where it may not answer at all."""
    stale = world.chance.choice(["yes", "no"])
    async with world.ledger.redis() as connection:
        await connection.config_set("replica-serve-stale-data", stale)
    await _refuses(world, ("REPLICAOF", "127.0.0.1", 1), ("REPLICAOF", "NO", "ONE"))


@fault(1)
async def redis_with_too_many_clients(world: World) -> None:
    seconds = world.lasts_seconds()
    world.say(f"Redis has room for no more clients for {seconds:.1f} s, and ours are cut off")
    async with world.ledger.redis() as connection:
        [before] = (await connection.config_get("maxclients")).values()
        await connection.config_set("maxclients", 1)
        try:
            await connection.execute_command("CLIENT", "KILL", "TYPE", "normal")
            await asyncio.sleep(seconds)
        finally:
            await connection.config_set("maxclients", before)


@fault(1)
async def redis_cannot_save(world: World) -> None:
    """A directory stands where its snapshot goes: MISCONF, until there is room again."""
    seconds = world.lasts_seconds()
    world.say(f"Redis cannot write its snapshot for {seconds:.1f} s: MISCONF")
    async with world.ledger.redis() as connection:
        found = await connection.config_get("dir", "dbfilename")
        wall = Path(found["dir"]) / found["dbfilename"]
        wall.mkdir()
        (wall / "here").touch()
        try:
            await connection.config_set("save", "3600 1")
            await connection.execute_command("BGSAVE")

            async def failed() -> bool:
                info = await connection.info("persistence")
                return bool(info["rdb_last_bgsave_status"] == "err")

            await until(failed, "a snapshot to fail")
            await asyncio.sleep(seconds)
        finally:
            await connection.config_set("save", "")
            (wall / "here").unlink()
            wall.rmdir()


@fault(1)
async def redis_busy(world: World) -> None:
    """A script that runs for long: BUSY."""
    seconds = world.lasts_seconds()
    world.say(f"Redis is busy with a script for {seconds:.1f} s")
    async with world.ledger.redis() as connection, world.ledger.redis() as other:
        await connection.config_set("busy-reply-threshold", 10)
        script = asyncio.create_task(connection.execute_command("EVAL", "while true do end", 0))
        await asyncio.sleep(seconds)
        await other.execute_command("SCRIPT", "KILL")
        with contextlib.suppress(redis.exceptions.ResponseError):
            await script


# Hostile producers.


@fault(6)
async def hostile_producer(world: World) -> None:
    shard = world.chance.randrange(world.ledger.shard_count)
    names = world.chance.choices(HOSTILE_ACTIONS, k=world.chance.randint(1, HOSTILE_ACTIONS_MAX))
    world.say(f"shard {shard} is attacked: {', '.join(names)}")
    accounts = [account(shard, number) for number in HOSTILE_ACCOUNTS]
    reply = f"{world.ledger.prefix}:answers:fuzz"
    contents = Contents(world.chance, accounts, reply)
    async with world.ledger.redis() as connection:
        attack = Attack(world.ledger, shard, connection, world.chance, contents, world.sent)
        for name in names:
            attack.action = name
            await ACTIONS[name](attack)
        await attack.tidy()
