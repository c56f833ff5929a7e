"""What goes wrong outside of workers: producers, backends, connections, shards on the move."""

import asyncio
import contextlib
import json
import os
import sys
from typing import Final

import asyncpg

from engine.settings import PREFIX_VARIABLE
from tests.chaos.faults import LASTS_SECONDS_MAX, World, fault

BACKENDS_MAX: Final = 4
"""How many are ended at once."""

MOVES_MAX: Final = 4
TABLES: Final = ("spent", "posted", "flushes", "owners", "heartbeats", "accounts", "resolutions")


@fault(4)
async def producer_killed(world: World) -> None:
    await world.fleet.kill(world.chance)


@fault(2)
async def producer_frozen(world: World) -> None:
    await world.fleet.freeze(world.chance, world.lasts_seconds())


@fault(3)
async def backends_ended(world: World) -> None:
    """Some backends of workers, whatever they are at."""
    count = world.chance.randint(1, BACKENDS_MAX)
    world.say(f"up to {count} backends of workers are ended")
    await world.ledger.sql(
        "SELECT pg_terminate_backend(pid) FROM (SELECT pid FROM pg_stat_activity"
        " WHERE application_name LIKE 'engine %' AND datname = current_database()"
        " ORDER BY random() LIMIT $1) AS chosen",
        count,
    )


@fault(1)
async def connections_exhausted(world: World) -> None:
    """Postgres has no connection to give, and workers lose theirs."""
    seconds = world.lasts_seconds()
    world.say(f"Postgres has no connections left for {seconds:.1f} s, and ours are cut off")
    connections: list[asyncpg.Connection] = []
    # A superuser's reserve is not ours to take: it is what the operator comes in by.
    controlling = await asyncpg.connect(world.ledger.dsn)
    try:
        await controlling.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name LIKE 'engine %' AND datname = current_database()"
        )
        with contextlib.suppress(asyncpg.TooManyConnectionsError):
            while True:
                connections.append(await asyncpg.connect(world.ledger.dsn))
        await asyncio.sleep(seconds)
    finally:
        for connection in connections:
            connection.terminate()
        await controlling.close()


@fault(3)
async def link_cut(world: World) -> None:
    """A worker's connections to one server are cut in the middle of whatever they carry."""
    links = world.crew.links[world.chance.randrange(len(world.crew.links))]
    which = world.chance.randrange(2)
    world.say(f"a worker's links to {('Postgres', 'Redis')[which]} are cut")
    await links[which].end()


@fault(2)
async def copy_cut(world: World) -> None:
    """The link of a worker is lost in the middle of a COPY."""
    links = world.crew.links[world.chance.randrange(len(world.crew.links))]
    world.say("a worker's link is lost within its next COPY")
    links[0].lose("request", b"PGCOPY\n")
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(links[0].lost.wait(), LASTS_SECONDS_MAX)
    links[0].lose("request", b"never sent")


@fault(2)
async def answer_lost(world: World) -> None:
    """Redis has written the answers, and a worker never hears of it."""
    links = world.crew.links[world.chance.randrange(len(world.crew.links))]
    world.say("what Redis says to a worker's next answers is lost")
    links[1].lose("answer", b"outcomes")
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(links[1].lost.wait(), LASTS_SECONDS_MAX)
    links[1].lose("answer", b"never sent")


@fault(3)
async def shards_moved(world: World) -> None:
    """An operator moves shards to a worker, while whatever else is going on."""
    owners = await world.ledger.sql(
        "SELECT DISTINCT worker::text FROM ledger.heartbeats WHERE expires_at > now()"
    )
    if not owners:
        return
    target = world.chance.choice(sorted(row["worker"] for row in owners))
    shards = world.chance.sample(range(world.ledger.shard_count), MOVES_MAX)
    world.say(f"shards {', '.join(map(str, sorted(shards)))} are to move to {target[:8]}")
    moves = [word for shard in shards for word in ("--move", f"{shard}={target}")]
    plan = await _shards(world, "plan", *moves)
    if plan:
        file = world.fleet.directory / "plan.json"
        file.write_bytes(plan)
        await _shards(world, "apply", str(file), "--parallel", "2")


async def _shards(world: World, *words: str) -> bytes:
    """A command of the operator, which may come to nothing: a worker may just have died."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "shards.commands",
        *words,
        *("--postgres-dsn", world.ledger.dsn, "--redis-url", world.ledger.redis_url),
        *(() if words[0] == "apply" else ("--json",)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env={**os.environ, PREFIX_VARIABLE: world.ledger.prefix},
    )
    try:
        told, _ = await asyncio.wait_for(process.communicate(), 2 * LASTS_SECONDS_MAX)
    except TimeoutError:
        process.kill()
        await process.wait()
        return b""
    if process.returncode != 0 or words[0] == "apply":
        return b""
    json.loads(told)
    return told


@fault(2)
async def table_locked(world: World) -> None:
    """As by `CREATE INDEX`, or by an ALTER TABLE that waits for its moment."""
    table = world.chance.choice(TABLES)
    mode = world.chance.choice(["SHARE", "ACCESS EXCLUSIVE"])
    seconds = world.lasts_seconds() * 2
    world.say(f"ledger.{table} is locked in {mode} MODE for {seconds:.1f} s")
    connection = await asyncpg.connect(world.ledger.dsn)
    try:
        async with connection.transaction():
            await connection.execute(f"LOCK TABLE ledger.{table} IN {mode} MODE")
            await asyncio.sleep(seconds)
    finally:
        await connection.close()
