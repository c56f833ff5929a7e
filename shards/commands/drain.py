"""`shards drain`: take all shards from a worker, before it is stopped; `shards undrain`."""

from typing import Annotated, TypeAlias

import typer

from engine.commands.addresses import Data, PostgresDsn, RedisUrl, find_addresses, find_postgres
from engine.commands.screen import Json, out, print_json, run_loop
from engine.store.operations import open_operations
from shards.applying import Bounds
from shards.commands.apply import MaxLag, MaxPause, Parallel, apply_now, show_applied
from shards.commands.plan import short
from shards.draft import draw_plan
from shards.planning import name_worker

Workers: TypeAlias = Annotated[
    list[str], typer.Argument(metavar="WORKER", help="Its id, or the beginning of it.")
]


def drain(
    worker: Workers,
    parallel: Parallel = 2,
    max_pause: MaxPause = None,
    max_lag: MaxLag = None,
    postgres_dsn: PostgresDsn = None,
    redis_url: RedisUrl = None,
    data: Data = None,
    json: Json = False,
) -> None:
    """Move all shards of a worker to the others.

    It takes none until `shards undrain`, unless all others are gone.

    Example: shards drain 0192f0c1
    """
    addresses = find_addresses(postgres_dsn, redis_url, data)
    made = run_loop(draw_plan(addresses.postgres_dsn, {}, worker, {}))
    show_applied(apply_now(addresses, made, Bounds(parallel, max_pause, max_lag)), json=json)


def undrain(
    worker: Workers,
    postgres_dsn: PostgresDsn = None,
    data: Data = None,
    json: Json = False,
) -> None:
    """Let a drained worker take shards again.

    It takes what is free; `shards plan` evens out the rest.

    Example: shards undrain 0192f0c1
    """
    names = run_loop(_undrain(find_postgres(postgres_dsn, data), worker))
    if json:
        print_json({"undrained": names})
    else:
        out.print(f"These take shards again: {', '.join(map(short, names))}")


async def _undrain(postgres_dsn: str, names: list[str]) -> list[str]:
    async with open_operations(postgres_dsn) as operations:
        workers = await operations.workers()
        found = [name_worker(name, workers).worker for name in names]
        await operations.drain(found, drained=False)
        return found
