"""`shards drain`: take all shards from a worker, before it is stopped for good."""

from typing import Annotated

import typer

from engine.commands.addresses import Data, PostgresDsn, RedisUrl, find_addresses
from engine.commands.screen import Json, run_loop
from shards.applying import Bounds
from shards.commands.apply import MaxLag, MaxPause, Parallel, apply_now, show_applied
from shards.commands.plan import draw_plan


def drain(
    worker: Annotated[
        list[str], typer.Argument(metavar="WORKER", help="Its id, or the beginning of it.")
    ],
    parallel: Parallel = 2,
    max_pause: MaxPause = None,
    max_lag: MaxLag = None,
    postgres_dsn: PostgresDsn = None,
    redis_url: RedisUrl = None,
    data: Data = None,
    json: Json = False,
) -> None:
    """Move all shards of a worker to the others; it takes none until it is started anew.

    Example: shards drain 0192f0c1
    """
    addresses = find_addresses(postgres_dsn, redis_url, data)
    made = run_loop(draw_plan(addresses, {}, worker, {}))
    show_applied(apply_now(addresses, made, Bounds(parallel, max_pause, max_lag)), json=json)
